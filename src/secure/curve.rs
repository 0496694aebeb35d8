//! X25519 for the handshake: its secrets are wiped, and points of small order are refused before any arithmetic.
//!
//! A point of small order makes the shared secret the same whatever our key is. Noise may accept it (its specification,
//! 12.1, leaves the choice open) and the library does; here it ends the handshake, since no honest node sends one.

use snow::Error;
use snow::types::{Dh, Random};
use zeroize::Zeroizing;

use super::montgomery;

/// Bytes of a point and of a secret.
pub const POINT: usize = 32;

/// The points of small order in all the encodings that 32 bytes allow (the list at cr.yp.to/ecdh.html, "Security").
const SMALL_ORDER: [[u8; POINT]; 12] = [
    number(0x00, 0x00, 0x00),
    number(0x01, 0x00, 0x00),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    number(0xec, 0xff, 0x7f),
    number(0xed, 0xff, 0x7f),
    number(0xee, 0xff, 0x7f),
    [
        0xcd, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x80,
    ],
    [
        0x4c, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0xd7,
    ],
    number(0xd9, 0xff, 0xff),
    number(0xda, 0xff, 0xff),
    number(0xdb, 0xff, 0xff),
];

/// The first, the middle and the last byte of a little-endian number.
const fn number(first: u8, middle: u8, last: u8) -> [u8; POINT] {
    let mut bytes = [middle; POINT];
    bytes[0] = first;
    bytes[POINT - 1] = last;
    bytes
}

/// True for a point that no honest node sends. The highest bit means nothing to X25519 and hides no point here.
pub fn is_small_order(point: &[u8; POINT]) -> bool {
    let mut plain = *point;
    plain[POINT - 1] &= 0x7f;
    SMALL_ORDER.iter().any(|small| small == point || *small == plain)
}

/// A key pair whose secret is wiped when it is dropped.
#[derive(Clone, Default)]
pub(super) struct KeyPair {
    pub(super) secret: Zeroizing<[u8; POINT]>,
    pub(super) public: [u8; POINT],
}

impl KeyPair {
    /// From a secret.
    pub(super) fn of(secret: Zeroizing<[u8; POINT]>) -> Self {
        let public = montgomery::base(&secret);
        Self { secret, public }
    }
}

/// What the Noise library multiplies points with.
#[derive(Default)]
pub(super) struct Curve {
    /// The node's own key, whose public half need not be computed anew for every handshake: to turn a stranger away
    /// costs a few hashes and no multiplication.
    pub(super) known: KeyPair,
    pub(super) key: KeyPair,
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        POINT
    }

    fn priv_len(&self) -> usize {
        POINT
    }

    fn set(&mut self, secret: &[u8]) {
        if secret == &self.known.secret[..] {
            self.key = self.known.clone();
            return;
        }
        let mut copy = Zeroizing::new([0; POINT]);
        let length = secret.len().min(POINT);
        copy[..length].copy_from_slice(&secret[..length]);
        self.key = KeyPair::of(copy);
    }

    fn generate(&mut self, chance: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; POINT]);
        chance.try_fill_bytes(&mut *secret)?;
        self.key = KeyPair::of(secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.key.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.key.secret
    }

    fn dh(&self, point: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let point: [u8; POINT] = point.get(..POINT).and_then(|point| point.try_into().ok()).ok_or(Error::Dh)?;
        let out = out.get_mut(..POINT).ok_or(Error::Dh)?;
        if is_small_order(&point) {
            return Err(Error::Dh);
        }
        out.copy_from_slice(&*montgomery::product(&self.key.secret, &point));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::MontgomeryPoint;

    use super::*;
    use crate::protocol::identity::{from_hex, to_hex};

    #[test]
    fn the_twelve_points_of_small_order_are_refused_before_any_arithmetic() {
        let mut curve = Curve::default();
        curve.set(&[7; POINT]);
        // The first seven also with the bit that means nothing.
        let disguised = SMALL_ORDER[..7].iter().map(|point| {
            let mut point = *point;
            point[POINT - 1] ^= 0x80;
            point
        });
        for point in SMALL_ORDER.into_iter().chain(disguised) {
            assert!(is_small_order(&point), "{}", to_hex(&point));
            assert!(matches!(curve.dh(&point, &mut [0; POINT]), Err(Error::Dh)));
        }
        assert!(!is_small_order(&KeyPair::of(Zeroizing::new([7; POINT])).public));
    }

    #[test]
    fn all_points_of_small_order_are_in_the_list() {
        // What the list is for: these, and with every other secret, give a secret that is no secret.
        for point in &SMALL_ORDER[..7] {
            assert_eq!(MontgomeryPoint(*point).mul_clamped([9; POINT]).to_bytes(), [0; POINT], "{}", to_hex(point));
        }
    }

    #[test]
    fn it_is_the_function_of_rfc_7748() {
        let secret = from_hex::<32>("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4").unwrap();
        let point = from_hex::<32>("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c").unwrap();
        let mut curve = Curve::default();
        curve.set(&secret);
        let mut out = [0; POINT];
        curve.dh(&point, &mut out).unwrap();
        assert_eq!(to_hex(&out), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    }
}
