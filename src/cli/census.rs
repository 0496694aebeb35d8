//! What `kithd network --census` and `--prove` say below the picture, and `--check`, which looks at a proof again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use super::client_args::Failure;
use super::table::{short, span};
use super::terminal;
use crate::admin::api::AdminError;
use crate::protocol::census_report::{CensusReport, ProofRow};
use crate::protocol::escape::escaped;
use crate::protocol::hash::Hash;
use crate::protocol::identity::{ControllerId, from_hex};
use crate::protocol::record::{NetworkId, Signature};
use crate::protocol::report::NetworkReport;
use crate::protocol::testimony::{Mode, Nonce, Testimony};
use crate::secure::door::Door;

/// The largest file that can hold a proof: 16,384 rows of 350 bytes, and the picture of as many nodes beside them.
const LONGEST_FILE: u64 = 128 << 20;

/// Who answered, and with what, in a few sentences. `name` tells what to call an id.
pub fn draw<'a>(census: &'a CensusReport, name: impl Fn(&'a str) -> &'a str) -> String {
    let CensusReport { answered, asked_live, digest, .. } = census;
    let view = escaped(short(digest));
    let took = match census.took_ms {
        ms @ 0..1000 => format!("{ms} ms"),
        ms => span(ms as f64 / 1000.0),
    };
    let mut said = if census.unanimous {
        format!("all {answered} nodes answered within {took}, and hold view {view}\n")
    } else {
        let with = census.digests.iter().find(|row| row.digest == *digest).map_or(0, |row| row.nodes);
        format!("{answered} of {asked_live} nodes answered within {took}, {with} hold view {view}\n")
    };
    let named = |ids: &'a [String]| ids.iter().map(|id| name(id)).collect::<Vec<_>>().join(", ");
    if !census.missing.is_empty() {
        let rest = asked_live.saturating_sub(*answered).saturating_sub(census.missing.len());
        let more = if rest == 0 { String::new() } else { format!(", and {rest} more") };
        said += &format!("did not answer: {}{more}\n", named(&census.missing));
    }
    if !census.differing.is_empty() {
        said += &format!("hold another view: {}\n", named(&census.differing));
    }
    if census.strangers > 0 {
        said += &format!("{} more answered that are not up in this node's view\n", census.strangers);
    }
    if census.mode == Mode::Prove {
        let (nonce, at) = (escaped(&census.nonce), escaped(&census.at));
        said += &format!("proved: each of these {} has signed it for census {nonce}, begun {at}\n", census.proof.len());
    }
    said
}

/// `--check FILE`: whether the proof in a file, as `--prove --format json` printed it, holds. Asks no node.
pub fn check(file: &Path) -> Result<ExitCode, Failure> {
    let wrong = |why: String| Failure::Node(AdminError::negative("no-proof", format!("{}: {why}", file.display())));
    let unread =
        |error: std::io::Error| Failure::Node(AdminError::usage(format!("--check {}: {error}", file.display())));
    let size = std::fs::metadata(file).map_err(unread)?.len();
    if size > LONGEST_FILE {
        return Err(wrong(format!("a proof has at most {} MiB", LONGEST_FILE >> 20)));
    }
    let text = std::fs::read_to_string(file).map_err(unread)?;
    let report: NetworkReport = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("is not what 'kithd network --prove --format json' prints: {error}")))?;
    let census = report.census.filter(|census| census.mode == Mode::Prove);
    let census = census.ok_or_else(|| wrong("holds no proof: make one with 'kithd network --prove'".to_owned()))?;
    let found = verify(&census).map_err(wrong)?;
    let mut said = format!("{} signatures hold for census {}\n", census.proof.len(), escaped(&census.nonce));
    for (digest, nodes) in &found {
        said += &format!("{nodes} hold view {}\n", escaped(digest));
    }
    terminal::say(&said)?;
    Ok(if found.len() == 1 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many have signed which digest, each node once; one of them is the view that the file is about.
///
/// # Errors
/// The first row that nobody has signed, or that nobody has signed that view.
fn verify(census: &CensusReport) -> Result<BTreeMap<&str, usize>, String> {
    let network = from_hex::<8>(&census.network).map(NetworkId).ok_or("its network is not 16 hex digits")?;
    let nonce = from_hex::<16>(&census.nonce).map(Nonce).ok_or("its nonce is not 32 hex digits")?;
    let door = Door::new(network);
    let (mut found, mut signers) = (BTreeMap::new(), BTreeSet::new());
    for row in &census.proof {
        let who = escaped(short(&row.id));
        let said = testimony(row).ok_or_else(|| format!("what {who} says is not written in hex digits"))?;
        if !signers.insert(said.id) {
            return Err(format!("{who} is in it twice"));
        }
        door.testimony(nonce, said).map_err(|_| format!("{who} has not signed this"))?;
        *found.entry(row.digest.as_str()).or_default() += 1;
    }
    // The rest of the file is one node's word, and not signed; this is what it stands for.
    if !found.contains_key(census.digest.as_str()) {
        return Err(format!("its view is {}, and nobody has signed that", escaped(short(&census.digest))));
    }
    Ok(found)
}

fn testimony(row: &ProofRow) -> Option<Testimony> {
    let (one, other) = row.signature.split_at_checked(64)?;
    Some(Testimony {
        id: ControllerId(from_hex(&row.id)?),
        digest: Hash(from_hex(&row.digest)?),
        live: row.live,
        signature: Signature(from_hex(one)?, from_hex(other)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::census_report::DigestRow;
    use crate::protocol::identity::to_hex;
    use crate::protocol::record::Signer;
    use crate::protocol::testimony::TestimonyBody;
    use crate::secure::keys::Identity;

    fn proof(digests: &[u8]) -> CensusReport {
        let (network, nonce) = (NetworkId::of("kith"), Nonce([4; 16]));
        let row = |digest: &u8| {
            let by = Identity::generate().unwrap();
            let body = TestimonyBody { network, nonce, id: by.id(), digest: Hash([*digest; 32]), live: 3 };
            let Testimony { id, digest, live, signature } = (*Testimony::signed(body, &by)).clone();
            let signature = to_hex(&[signature.0, signature.1].concat());
            ProofRow { id: id.hex(), digest: digest.hex(), live, signature }
        };
        CensusReport {
            mode: Mode::Prove,
            nonce: nonce.hex(),
            network: to_hex(&network.0),
            at: "2026-11-21T09:23:05.042Z".to_owned(),
            took_ms: 1250,
            digest: "01".repeat(32),
            asked_live: 4,
            answered: 3,
            unanimous: false,
            digests: vec![
                DigestRow { digest: "01".repeat(32), nodes: 2 },
                DigestRow { digest: "02".repeat(32), nodes: 1 },
            ],
            others: 0,
            missing: vec!["aa".repeat(32)],
            differing: vec!["bb".repeat(32)],
            strangers: 0,
            proof: digests.iter().map(row).collect(),
        }
    }

    #[test]
    fn a_census_is_told_in_sentences() {
        let report = proof(&[1, 1, 2]);
        assert_eq!(
            draw(&report, |id| &id[..2]),
            "\
3 of 4 nodes answered within 1.2 s, 2 hold view 01010101
did not answer: aa
hold another view: bb
proved: each of these 3 has signed it for census 04040404040404040404040404040404, begun 2026-11-21T09:23:05.042Z
"
        );
        let counted = CensusReport {
            mode: Mode::Count,
            answered: 1,
            digests: Vec::new(),
            differing: Vec::new(),
            ..report.clone()
        };
        assert_eq!(
            draw(&counted, |id| &id[..2]),
            "1 of 4 nodes answered within 1.2 s, 0 hold view 01010101\ndid not answer: aa, and 2 more\n"
        );
        let good = CensusReport { unanimous: true, answered: 4, took_ms: 80, missing: Vec::new(), ..counted };
        assert_eq!(draw(&good, |id| id), "all 4 nodes answered within 80 ms, and hold view 01010101\n");
    }

    #[test]
    fn a_proof_holds_until_anything_in_it_is_changed() {
        let report = proof(&[1, 1, 2]);
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(verify(&report), Ok([(one.as_str(), 2), (two.as_str(), 1)].into()));
        let changed = |change: &dyn Fn(&mut CensusReport)| {
            let mut report = report.clone();
            change(&mut report);
            verify(&report).map(drop).unwrap_err()
        };
        let not_signed = format!("{} has not signed this", &report.proof[0].id[..8]);
        assert_eq!(changed(&|report| report.nonce = "05".repeat(16)), not_signed);
        assert_eq!(changed(&|report| report.network = "05".repeat(8)), not_signed);
        assert_eq!(changed(&|report| report.proof[0].live = 4), not_signed);
        assert_eq!(changed(&|report| report.proof[0].digest = two.clone()), not_signed);
        assert!(changed(&|report| report.proof[0].id = report.proof[1].id.clone()).ends_with("has not signed this"));
        assert!(changed(&|report| report.proof.push(report.proof[0].clone())).ends_with("is in it twice"));
        assert!(changed(&|report| report.proof[1].signature = "ä".repeat(64)).ends_with("in hex digits"));
        assert!(changed(&|report| report.nonce = "5".to_owned()).ends_with("32 hex digits"));
        assert_eq!(
            changed(&|report| report.digest = "05".repeat(32)),
            "its view is 05050505, and nobody has signed that"
        );
    }
}
