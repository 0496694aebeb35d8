//! What a node's owner says about it, as keys with values: who may say what, and how much of it.

use std::collections::BTreeMap;

use super::record::MAX_TAGS;

/// Tags of one node: each costs 16 bytes of lengths beside its words, and a record of
/// [`MAX_RECORD`](super::record::MAX_RECORD) bytes has room for so many with [`MAX_TAGS`] bytes of words, the longest
/// label, the longest address and all its edges.
pub const MAX_TAG_COUNT: usize = 9;

/// Tags by their keys.
pub type Tags = BTreeMap<String, String>;

/// Why words are no tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which word is to blame.
    pub word: usize,
    /// What it must be; stands well behind the word and a colon.
    pub message: String,
}

/// The tags in words such as `role=db`, together within their bounds and no key given twice.
///
/// # Errors
/// The first word that is wrong, or one too many.
pub fn from_words(words: &[String]) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for (word, text) in words.iter().enumerate() {
        let fault = |message: String| Fault { word, message };
        let (key, value) = pair(text).map_err(fault)?;
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(fault("gives the same tag twice; leave one out".to_owned()));
        }
        within_bounds(&tags).map_err(fault)?;
    }
    Ok(tags)
}

/// These tags with some set, in words such as `role=db`, and then some removed, by their keys.
///
/// # Errors
/// One line that names what is wrong and the cure; a key that is not there cannot be removed.
pub fn changed(tags: &Tags, set: &[String], remove: &[String]) -> Result<Tags, String> {
    let mut tags = tags.clone();
    let given = from_words(set).map_err(|Fault { word, message }| {
        let text = set.get(word).map_or("", String::as_str);
        match text.strip_suffix('=') {
            Some(key) => format!("{text:?} has no value: to take the tag away give --remove {key}"),
            None => format!("{text:?}: {message}"),
        }
    })?;
    if let Some(key) = remove.iter().find(|key| given.contains_key(*key)) {
        return Err(format!("{key:?} is to be set and removed: leave one out"));
    }
    for key in remove {
        tags.remove(key).ok_or_else(|| format!("there is no tag {key:?} to remove: see 'kithd tag'"))?;
    }
    tags.extend(given);
    within_bounds(&tags).map_err(|why| format!("with these, {why} or remove others first"))?;
    Ok(tags)
}

fn pair(word: &str) -> Result<(&str, &str), String> {
    let (key, value) = word.split_once('=').ok_or("must be a key and a value, as in role=web")?;
    if [key, value].iter().any(|part| part.is_empty() || !part.bytes().all(|b| matches!(b, b' '..=b'~'))) {
        let what = "a tag's key and value have at least one character each, all printable ASCII";
        return Err(what.to_owned());
    }
    Ok((key, value))
}

fn within_bounds(tags: &Tags) -> Result<(), String> {
    let bytes: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_TAGS {
        return Err(format!("all tags' keys and values together have at most {MAX_TAGS} bytes; shorten some"));
    }
    if tags.len() > MAX_TAG_COUNT {
        return Err(format!("a node has at most {MAX_TAG_COUNT} tags; join some"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::encoded_len;
    use crate::protocol::identity::{ControllerId, Label, ShortId};
    use crate::protocol::record::{
        MAX_EDGES, MAX_RECORD, NetworkId, Reach, Record, RecordBody, RecordState, Signature,
    };

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn tags(texts: &[&str]) -> Tags {
        from_words(&words(texts)).unwrap()
    }

    #[test]
    fn the_largest_tags_fit_the_largest_record() {
        let length = MAX_TAGS / MAX_TAG_COUNT - 1;
        let texts: Vec<String> = (0..MAX_TAG_COUNT).map(|n| format!("{n}={}", "v".repeat(length))).collect();
        let mut tags = from_words(&texts).unwrap();
        let rest = MAX_TAGS - tags.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        tags.get_mut("0").unwrap().push_str(&"v".repeat(rest));
        let body = RecordBody {
            network: NetworkId([0; 8]),
            id: ControllerId([0; 32]),
            version: 0,
            issued: 0,
            incarnation: 0,
            state: RecordState::Up,
            reach: Reach::Proven,
            address: "[2001:db8::1]:7100".parse().unwrap(),
            label: Label::from_lossy(&"l".repeat(63)),
            tags: tags.into_iter().collect(),
            edges: (0..MAX_EDGES as u8).map(|edge| ShortId([edge; 8])).collect(),
            round_trips: [255; MAX_EDGES].into_iter().collect(),
        };
        assert_eq!(body.tags.len(), MAX_TAG_COUNT);
        let length = encoded_len(&Record { body, signature: Signature([0; 32], [0; 32]) });
        assert!((MAX_RECORD - 18..=MAX_RECORD).contains(&length), "{length}");
    }

    #[test]
    fn what_is_no_tag_is_told_so() {
        for (wrong, why) in [
            (&["role"][..], "must be a key and a value"),
            (&["=db"], "at least one character"),
            (&["role="], "at least one character"),
            (&["role=d\u{e9}"], "printable ASCII"),
            (&["a=1", "a=2"], "twice"),
            (&["0=1", "1=1", "2=1", "3=1", "4=1", "5=1", "6=1", "7=1", "8=1", "9=1"], "at most 9 tags"),
            (&["k=v", &format!("l={}", "v".repeat(254))], "at most 256 bytes"),
        ] {
            let fault = from_words(&words(wrong)).unwrap_err();
            assert!(fault.message.contains(why) && fault.word == wrong.len() - 1, "{wrong:?}: {fault:?}");
        }
        assert_eq!(tags(&["a=b=c"])["a"], "b=c");
    }

    #[test]
    fn tags_are_set_and_removed() {
        let held = tags(&["role=web", "zone=a"]);
        let change = |set: &[&str], remove: &[&str]| changed(&held, &words(set), &words(remove));
        assert_eq!(change(&["role=db"], &["zone"]), Ok(tags(&["role=db"])));
        assert_eq!(change(&[], &[]), Ok(held.clone()));
        assert_eq!(
            change(&["role="], &[]).unwrap_err(),
            "\"role=\" has no value: to take the tag away give --remove role"
        );
        assert!(change(&["role=db"], &["role"]).unwrap_err().contains("leave one out"));
        assert!(change(&[], &["rack"]).unwrap_err().contains("no tag \"rack\""));
        let long = format!("l={}", "v".repeat(250));
        assert!(change(&[&long], &[]).unwrap_err().contains("remove others first"));
        assert!(change(&[&long], &["role", "zone"]).is_ok(), "what is removed makes room");
    }
}
