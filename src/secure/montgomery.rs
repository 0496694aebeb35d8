//! X25519's two multiplications (RFC 7748), by the faster of two libraries that this processor can run.
//!
//! They are what a handshake costs: one with the base point and three others at each end. The assembly of s2n-bignum, which
//! is proven correct and comes with `graviola`, takes two fifths of the time of `curve25519-dalek`, but wants a processor
//! of the last ten years (`adx`, `avx2`; on arm64 `sha2` and `pmull`).

use curve25519_dalek::MontgomeryPoint;
use zeroize::Zeroizing;

use super::curve::POINT;

/// The public half of a secret.
pub(super) fn base(secret: &[u8; POINT]) -> [u8; POINT] {
    proven::base(secret).unwrap_or_else(|| portable_base(secret))
}

/// What a secret and a point make: zero, or nothing to be relied on, for a point of small order.
pub(super) fn product(secret: &[u8; POINT], point: &[u8; POINT]) -> Zeroizing<[u8; POINT]> {
    proven::product(secret, point).unwrap_or_else(|| portable_product(secret, point))
}

fn portable_base(secret: &[u8; POINT]) -> [u8; POINT] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

fn portable_product(secret: &[u8; POINT], point: &[u8; POINT]) -> Zeroizing<[u8; POINT]> {
    Zeroizing::new(MontgomeryPoint(*point).mul_clamped(*secret).to_bytes())
}

/// `None` where the processor is too old.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod proven {
    use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};
    use graviola::util::is_cpu_supported;
    use zeroize::Zeroizing;

    use super::POINT;

    pub(super) fn base(secret: &[u8; POINT]) -> Option<[u8; POINT]> {
        is_cpu_supported().then(|| StaticPrivateKey::from_array(secret).public_key().as_bytes())
    }

    /// Also for a point of small order, for which the library has no secret to give.
    pub(super) fn product(secret: &[u8; POINT], point: &[u8; POINT]) -> Option<Zeroizing<[u8; POINT]>> {
        let shared = || StaticPrivateKey::from_array(secret).diffie_hellman(&PublicKey::from_array(point)).ok();
        is_cpu_supported().then(shared).flatten().map(|shared| Zeroizing::new(shared.0))
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod proven {
    use zeroize::Zeroizing;

    use super::POINT;

    pub(super) fn base(_: &[u8; POINT]) -> Option<[u8; POINT]> {
        None
    }

    pub(super) fn product(_: &[u8; POINT], _: &[u8; POINT]) -> Option<Zeroizing<[u8; POINT]>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::identity::from_hex;
    use crate::secure::curve::is_small_order;

    proptest! {
        #[test]
        fn both_libraries_compute_the_same(secret: [u8; POINT], point: [u8; POINT]) {
            prop_assert_eq!(base(&secret), portable_base(&secret));
            prop_assert_eq!(product(&secret, &point), portable_product(&secret, &point));
            let on_the_curve = portable_base(&point);
            prop_assert_eq!(product(&secret, &on_the_curve), portable_product(&secret, &on_the_curve));
        }

        #[test]
        fn both_ends_come_to_the_same_secret(one: [u8; POINT], other: [u8; POINT]) {
            prop_assert_eq!(product(&one, &base(&other)), portable_product(&other, &portable_base(&one)));
        }

        /// Numbers that are not below 2^255 - 19 have to mean the same to both.
        #[test]
        fn both_read_a_point_that_is_not_reduced_alike(secret: [u8; POINT], low in 0xed..=0xffu8, high: bool) {
            let mut point = [0xff; POINT];
            point[0] = low;
            point[POINT - 1] = if high { 0xff } else { 0x7f };
            prop_assert_eq!(product(&secret, &point), portable_product(&secret, &point));
            prop_assert!(is_small_order(&point) || product(&secret, &point) != Zeroizing::new([0; POINT]));
        }
    }

    #[test]
    fn a_thousand_rounds_end_where_rfc_7748_says() {
        let mut point = [0; POINT];
        point[0] = 9;
        let mut secret = point;
        for _ in 0..1_000 {
            let next = product(&secret, &point);
            (point, secret) = (secret, *next);
        }
        let expected = from_hex::<32>("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51").unwrap();
        assert_eq!(secret, expected);
    }
}
