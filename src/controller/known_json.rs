//! The form of `known.json`: what a node remembers, and a checksum over it.
//!
//! ```text
//!   { "schema": 1, "checksum": "<64 hex digits>", "memory": { … } }
//! ```
//!
//! The checksum is over the bytes of `memory` as they stand. One bit that flipped in a ban or an address would otherwise
//! be a different ban or address, and nobody would know. Memory without the two others around it is read as well: that is
//! how a user hands a node what he has written himself.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::hash::hash_parts;
use crate::protocol::node::Memory;

/// Rises when an older node could not read what a newer one writes.
const SCHEMA: u32 = 1;
/// Versions begin at the clock's milliseconds and rise by one a publication: beyond the year 9999 lies none that a node
/// came to in this way, and at the very end of the numbers a node could publish nothing new.
const MAX_VERSION: u64 = 253_402_300_799_999;

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    schema: Option<u32>,
    checksum: Option<String>,
    #[serde(borrow)]
    memory: Option<&'a RawValue>,
}

/// What is written.
///
/// # Errors
/// None that a memory can cause.
pub fn written(memory: &Memory) -> io::Result<Vec<u8>> {
    let memory = RawValue::from_string(serde_json::to_string_pretty(memory)?)?;
    let form = Form { schema: Some(SCHEMA), checksum: Some(checksum(&memory)), memory: Some(&memory) };
    Ok(serde_json::to_vec_pretty(&form)?)
}

/// What was written, if it is that.
///
/// # Errors
/// In words that follow "is damaged": what is wrong with it.
pub fn read(text: &[u8]) -> io::Result<Memory> {
    let form: Form<'_> = serde_json::from_slice(text)?;
    let memory: Memory = match form {
        Form { schema: None, checksum: None, memory: None } => serde_json::from_slice(text)?,
        Form { schema: Some(schema), .. } if schema != SCHEMA => {
            return damaged(format!("it has schema {schema}, and this kithd knows {SCHEMA}"));
        }
        Form { schema: Some(_), checksum: Some(said), memory: Some(memory) } => {
            if said != checksum(memory) {
                return damaged("its checksum is that of another content");
            }
            serde_json::from_str(memory.get())?
        }
        _ => return damaged("schema, checksum or memory is missing"),
    };
    if memory.version > MAX_VERSION {
        return damaged(format!("version {} is no moment of any clock", memory.version));
    }
    Ok(memory)
}

fn checksum(memory: &RawValue) -> String {
    hash_parts(b"known.json", &[memory.get().as_bytes()]).hex()
}

fn damaged<T>(why: impl Display) -> io::Result<T> {
    Err(io::Error::new(ErrorKind::InvalidData, why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::address_book::KnownAddress;
    use crate::protocol::node::MAX_KEPT;

    fn memory() -> Memory {
        let known = |port: u16| KnownAddress {
            address: format!("127.0.0.1:{port}"),
            node: Some("0f".repeat(32)),
            since: Some(1_700_000_000_000),
        };
        Memory { version: 1_800_000_000_000, addresses: vec![known(7100), known(7101)], ..Memory::default() }
    }

    #[test]
    fn no_flipped_bit_is_taken_for_something_else() {
        let sound = written(&memory()).unwrap();
        assert_eq!(read(&sound).unwrap(), memory());
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = read(&flipped) {
                assert_eq!(found, memory(), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
            }
        }
        for length in 0..sound.len() {
            assert!(read(&sound[..length]).is_err(), "the first {length} bytes");
        }
    }

    #[test]
    fn what_a_user_wrote_himself_needs_no_checksum() {
        let bare = serde_json::to_vec(&memory()).unwrap();
        assert_eq!(read(&bare).unwrap(), memory());
        assert_eq!(read(b"{\"version\": 1, \"addresses\": []}").unwrap().version, 1);
    }

    #[test]
    fn what_no_node_has_written_is_refused_with_its_reason() {
        let row = "{\"address\": \"\", \"node\": null}";
        let many = |count: usize| format!("{{\"version\": 1, \"addresses\": [{}]}}", vec![row; count].join(","));
        assert!(read(many(MAX_KEPT).as_bytes()).is_ok());
        let crowd = many(MAX_KEPT + 1);
        let newer = String::from_utf8(written(&memory()).unwrap()).unwrap().replace("\"schema\": 1", "\"schema\": 2");
        let beyond = format!("{{\"version\": {}, \"addresses\": []}}", u64::MAX);
        for (text, why) in [
            (crowd.as_str(), "elements"),
            (&newer, "schema 2"),
            (&beyond, "no moment of any clock"),
            ("{\"schema\": 1}", "missing"),
            ("[]", "invalid length"),
        ] {
            let said = read(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
