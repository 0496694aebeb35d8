//! The handshake: who is there, and the keys of the two directions.
//!
//! ```text
//!  tail                                                         head
//!  preamble (8), in the clear: magic, versions, cipher, purpose
//!  1  e                                    ───────────▶          a key of the network opens it: else not one byte back
//!                                          ◀───────────  2  e, ee, s, es │ version, proof   (or a refusal)
//!  3  s, se │ proof                        ───────────▶
//!     Hello, sealed                        ───────────▶
//! ```
//!
//! `Noise_XXpsk0_25519_<cipher>_BLAKE2s`, each message one frame. The prologue is the preamble and the network's id, so a
//! changed preamble fails at message 1, and a replayed message 1 has nobody to answer message 2. The payload of message 2
//! begins with the version the head chose, or zero and the versions it speaks; then, as in message 3, comes the
//! [proof](super::credentials) of the identity. Pure but for the ephemeral keys: time is an argument, and no socket is seen.

use std::sync::Arc;

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::credentials::{Credentials, PROOF};
use super::curve::{POINT, is_small_order};
use super::network_key::NetworkKey;
use super::primitives::{Cipher, Primitives, cipher};
use super::recent::Recent;
use super::session::{Opening, Sealing};
use crate::protocol::codec::{Preamble, frame};
use crate::protocol::identity::ControllerId;
use crate::protocol::key_mark::KeyMark;
use crate::protocol::message::{Purpose, VERSION};
use crate::protocol::reason::Reason;

/// The longest handshake message, in bytes: message 2 with its proof has 201.
pub const MAX_MESSAGE: usize = 256;

/// An authenticated connection.
#[derive(Debug)]
pub struct Secured {
    /// Who is there: it has signed the key that this session was made with.
    pub remote: ControllerId,
    /// The network key that both ends hold.
    pub key: KeyMark,
    /// For what is sent.
    pub sealing: Sealing,
    /// For what is received.
    pub opening: Opening,
}

/// The dialling end, waiting for message 2.
pub struct Tail {
    noise: Box<HandshakeState>,
    credentials: Arc<Credentials>,
    key: KeyMark,
    cipher: Cipher,
}

impl Tail {
    /// Begins; returns the preamble and message 1, ready to be sent.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the system has no randomness.
    pub fn begin(
        credentials: &Arc<Credentials>,
        key: &NetworkKey,
        cipher: Cipher,
        purpose: Purpose,
    ) -> Result<(Self, Vec<u8>), Reason> {
        Self::begin_with(credentials, key, Preamble::of(cipher as u8, purpose), None)
    }

    /// As [`begin`](Self::begin), with any preamble and with a fixed ephemeral key: for test vectors and hostile tests only.
    ///
    /// # Errors
    /// As there, or [`Reason::VersionMismatch`] for a cipher that does not exist.
    pub fn begin_with(
        credentials: &Arc<Credentials>,
        key: &NetworkKey,
        preamble: Preamble,
        ephemeral: Option<&[u8; POINT]>,
    ) -> Result<(Self, Vec<u8>), Reason> {
        let cipher = Cipher::from_number(preamble.cipher).ok_or(Reason::VersionMismatch)?;
        let state = State { credentials, key, preamble, ephemeral };
        let mut noise = state.build(true)?;
        let mut bytes = preamble.to_bytes().to_vec();
        bytes.extend(write(&mut noise, &[])?);
        let credentials = Arc::clone(credentials);
        Ok((Self { noise, credentials, key: key.mark(), cipher }, bytes))
    }

    /// Takes message 2 (a frame without its length); returns message 3, ready to be sent, and the session. `now` is in Unix
    /// seconds.
    ///
    /// # Errors
    /// [`Reason::NetworkKey`] if it does not open, [`Reason::VersionMismatch`] if the head refuses for that, and what
    /// [`Credentials`] say of a proof.
    #[inline(never)]
    pub fn finish(mut self, message: &[u8], now: u64) -> Result<(Vec<u8>, Secured), Reason> {
        let payload = read(&mut self.noise, message)?;
        let (version, proof) = payload.split_first().ok_or(Reason::Malformed)?;
        if *version != VERSION {
            return Err(Reason::VersionMismatch);
        }
        let remote = self.credentials.check(proof, &remote_key(&self.noise)?, now)?;
        let answer = write(&mut self.noise, &self.credentials.proof(now))?;
        Ok((answer, secured(self.noise, remote, self.key, self.cipher, true)))
    }

    /// The key it dials with.
    pub fn key(&self) -> KeyMark {
        self.key
    }
}

/// The accepting end.
pub enum Head {
    /// Waits for message 1.
    First(Preamble),
    /// Waits for message 3.
    Third {
        /// Noise's state.
        noise: Box<HandshakeState>,
        /// The key that opened message 1.
        key: KeyMark,
        /// The tail's choice.
        cipher: Cipher,
    },
}

/// What a head answers to message 1.
pub enum Answer {
    /// Message 2, ready to be sent; message 3 comes next.
    Continue(Head, Vec<u8>),
    /// Message 2 with a refusal: to be sent, and then the connection ends for this reason.
    Refuse(Vec<u8>, Reason),
}

impl Head {
    /// Takes message 1 (a frame without its length). `keys` are tried in turn, before any multiplication of points; `seen`
    /// remembers the ephemeral keys of late. `now` is in Unix seconds.
    ///
    /// # Errors
    /// All are to be met with silence: [`Reason::NetworkKey`] if no key opens it, [`Reason::Replayed`] if its like was seen
    /// before, [`Reason::LowOrderPoint`], [`Reason::FrameTooLarge`] above [`MAX_MESSAGE`], [`Reason::VersionMismatch`] for
    /// a cipher that does not exist.
    pub fn first(
        preamble: Preamble,
        message: &[u8],
        credentials: &Arc<Credentials>,
        keys: &[NetworkKey],
        seen: &Recent,
        now: u64,
    ) -> Result<Answer, Reason> {
        Self::first_with(preamble, message, credentials, keys, seen, now, None)
    }

    /// As [`first`](Self::first), with a fixed ephemeral key: for test vectors only.
    ///
    /// # Errors
    /// As there.
    pub fn first_with(
        preamble: Preamble,
        message: &[u8],
        credentials: &Arc<Credentials>,
        keys: &[NetworkKey],
        seen: &Recent,
        now: u64,
        ephemeral: Option<&[u8; POINT]>,
    ) -> Result<Answer, Reason> {
        let cipher = Cipher::from_number(preamble.cipher).ok_or(Reason::VersionMismatch)?;
        let point: &[u8; POINT] = message.first_chunk().ok_or(Reason::NetworkKey)?;
        if is_small_order(point) {
            return Err(Reason::LowOrderPoint);
        }
        let mut opened = None;
        for key in keys {
            let mut noise = State { credentials, key, preamble, ephemeral }.build(false)?;
            match read(&mut noise, message) {
                Ok(payload) if payload.is_empty() => {
                    opened = Some((noise, key.mark()));
                    break;
                }
                // Not this key; all else has nothing to do with which it is.
                Ok(_) | Err(Reason::NetworkKey) => {}
                Err(reason) => return Err(reason),
            }
        }
        let (mut noise, key) = opened.ok_or(Reason::NetworkKey)?;
        let mut mark = [0; 16];
        mark.copy_from_slice(&point[..16]);
        if !seen.remember(mark) {
            return Err(Reason::Replayed);
        }
        if !preamble.speaks(VERSION) {
            return Ok(Answer::Refuse(write(&mut noise, &[0, VERSION, VERSION])?, Reason::VersionMismatch));
        }
        let mut payload = [VERSION; 1 + PROOF];
        payload[1..].copy_from_slice(&credentials.proof(now));
        let answer = write(&mut noise, &payload)?;
        Ok(Answer::Continue(Self::Third { noise, key, cipher }, answer))
    }

    /// Takes message 3 (a frame without its length). `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`Reason::NetworkKey`] if it does not open (a replay ends here), [`Reason::LowOrderPoint`], and what [`Credentials`]
    /// say of a proof.
    pub fn third(self, message: &[u8], credentials: &Credentials, now: u64) -> Result<Secured, Reason> {
        let Self::Third { mut noise, key, cipher } = self else { return Err(Reason::Unexpected) };
        let proof = read(&mut noise, message)?;
        let remote = credentials.check(&proof, &remote_key(&noise)?, now)?;
        Ok(secured(noise, remote, key, cipher, false))
    }
}

/// What a handshake begins with.
struct State<'a> {
    credentials: &'a Credentials,
    key: &'a NetworkKey,
    preamble: Preamble,
    ephemeral: Option<&'a [u8; POINT]>,
}

impl State<'_> {
    fn build(&self, is_tail: bool) -> Result<Box<HandshakeState>, Reason> {
        // As said above: a cipher without a number was refused before.
        let cipher = Cipher::from_number(self.preamble.cipher).ok_or(Reason::VersionMismatch)?;
        let prologue = [&self.preamble.to_bytes()[..], &self.credentials.network().0].concat();
        let primitives = Box::new(Primitives { known: self.credentials.key.clone() });
        let begin = || {
            let mut builder = Builder::with_resolver(cipher.protocol(), primitives)
                .prologue(&prologue)?
                .psk(0, self.key.bytes())?
                .local_private_key(&*self.credentials.key.secret)?;
            if let Some(ephemeral) = self.ephemeral {
                builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
            }
            if is_tail { builder.build_initiator() } else { builder.build_responder() }
        };
        begin().map(Box::new).map_err(|_| Reason::Internal)
    }
}

/// The next handshake message with this payload, as a frame.
fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Reason> {
    let mut message = [0; MAX_MESSAGE];
    let length = noise.write_message(payload, &mut message).map_err(reason)?;
    Ok(frame(&message[..length]))
}

/// The payload of a handshake message that arrived.
fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Reason> {
    if message.len() > MAX_MESSAGE {
        return Err(Reason::FrameTooLarge);
    }
    let mut payload = vec![0; MAX_MESSAGE];
    let length = noise.read_message(message, &mut payload).map_err(reason)?;
    payload.truncate(length);
    Ok(payload)
}

fn reason(error: snow::Error) -> Reason {
    match error {
        snow::Error::Dh => Reason::LowOrderPoint,
        snow::Error::Rng => Reason::Internal,
        _ => Reason::NetworkKey,
    }
}

fn remote_key(noise: &HandshakeState) -> Result<[u8; POINT], Reason> {
    noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Reason::Malformed)
}

/// Splits a finished handshake: the first key is for what the tail sends, the second for what the head does.
fn secured(
    mut noise: Box<HandshakeState>,
    remote: ControllerId,
    key: KeyMark,
    choice: Cipher,
    is_tail: bool,
) -> Secured {
    let (from_tail, from_head) = noise.dangerously_get_raw_split();
    let (from_tail, from_head) = (Zeroizing::new(from_tail), Zeroizing::new(from_head));
    let keyed = |key: &[u8; 32]| {
        let mut cipher = cipher(choice);
        cipher.set(key);
        cipher
    };
    let (out, inward) = if is_tail { (&from_tail, &from_head) } else { (&from_head, &from_tail) };
    Secured { remote, key, sealing: Sealing::new(keyed(out)), opening: Opening::new(keyed(inward)) }
}

#[cfg(test)]
mod tests;
