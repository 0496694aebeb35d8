//! Who is kept out, and until when.
//!
//! A ban is of a node's id, which nobody else can have once connections prove it, or of a range of addresses. It is never
//! of a label: anybody may give himself any label, so such a ban would keep out the honest and be shed by the others.
//! Each ends by itself, at a moment of the wall clock, so that it means the same after a restart; and there are only so
//! many, because each is looked at, kept on disk, and one day has to be understood by somebody.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::identity::{ControllerId, Label};
use super::prefix::{Prefix, width};
use super::report::BanRow;
use super::time::{Now, Time, from_rfc3339, rfc3339};

/// Who is kept out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A node, whatever its address.
    Node(ControllerId),
    /// Whoever has one of these addresses.
    Addresses(Prefix),
}

/// One ban.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Who.
    pub target: Target,
    /// The node's label when it was banned, for whoever reads the list.
    pub label: Option<Label>,
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
    /// Why, if that was said.
    pub note: Option<Note>,
}

/// Why somebody was banned, in the words of who did it: at most [`Note::MAX`] characters, none of them a control
/// character, so that it is one line of a table and of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note(String);

/// All bans of a node.
#[derive(Debug)]
pub struct Bans {
    held: BTreeMap<Target, Ban>,
    max: usize,
    stamp: u64,
}

/// There are as many bans as there may be: so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full(pub usize);

impl Ban {
    /// Of a ban whose end nobody named: a night and a day to look into it, and a mistake mends itself.
    pub const DEFAULT: Duration = Duration::from_secs(24 * 3600);
    /// The shortest: below a second the word and its end would cross.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest, a year: what should last longer is a matter for the allow-list, or for somebody to confirm.
    pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

    /// As it is shown and kept.
    pub fn row(&self) -> BanRow {
        let (id, address) = match self.target {
            Target::Node(id) => (Some(id.hex()), None),
            Target::Addresses(prefix) => (None, Some(prefix.to_string())),
        };
        let label = self.label.as_ref().map(Label::to_string);
        let reason = self.note.as_ref().map(Note::to_string);
        BanRow { id, address, label, until: rfc3339(self.until_ms), reason }
    }

    /// The ban that [`Ban::row`] showed; `None` if somebody made it otherwise.
    pub fn from_row(row: &BanRow) -> Option<Self> {
        let target = match (&row.id, &row.address) {
            (Some(id), None) => Target::Node(id.parse().ok()?),
            (None, Some(address)) => Target::Addresses(address.parse().ok()?),
            _ => return None,
        };
        let label = row.label.as_ref().map(|label| label.parse()).transpose().ok()?;
        let note = row.reason.as_ref().map(|note| note.parse()).transpose().ok()?;
        Some(Self { target, label, until_ms: from_rfc3339(&row.until)?, note })
    }

    fn stands(&self, now: Now) -> bool {
        self.until_ms > now.wall_ms
    }
}

impl Bans {
    /// None, and room for so many.
    pub fn new(max: usize) -> Self {
        Self { held: BTreeMap::new(), max, stamp: 0 }
    }

    /// Those that were kept over a restart and have not ended, and how many of them were lost: not understood, or without
    /// room. Those that last longest find room first.
    pub fn restore(rows: &[BanRow], max: usize, now: Now) -> (Self, usize) {
        let mut bans = Self::new(max);
        let mut kept: Vec<Ban> = rows.iter().filter_map(Ban::from_row).collect();
        let mut lost = rows.len() - kept.len();
        kept.sort_by_key(|ban| std::cmp::Reverse(ban.until_ms));
        for ban in kept.into_iter().filter(|ban| ban.stands(now)) {
            lost += usize::from(bans.insert(ban, now).is_err());
        }
        (bans, lost)
    }

    /// Keeps somebody out; a ban of the same target is replaced.
    ///
    /// # Errors
    /// [`Full`]. None is given up for another: who was banned first would come back unnoticed.
    pub fn insert(&mut self, ban: Ban, now: Now) -> Result<(), Full> {
        self.expire(now);
        if self.held.len() >= self.max && !self.held.contains_key(&ban.target) {
            return Err(Full(self.held.len()));
        }
        self.held.insert(ban.target, ban);
        self.stamp += 1;
        Ok(())
    }

    /// Takes a ban back.
    pub fn remove(&mut self, target: &Target) -> Option<Ban> {
        let ban = self.held.remove(target)?;
        self.stamp += 1;
        Some(ban)
    }

    /// Drops what has ended; true if anything has.
    pub fn expire(&mut self, now: Now) -> bool {
        let before = self.held.len();
        self.held.retain(|_, ban| ban.stands(now));
        self.stamp += u64::from(self.held.len() != before);
        self.held.len() != before
    }

    /// Those that stand: nodes by id, then addresses in their order.
    pub fn iter(&self, now: Now) -> impl Iterator<Item = &Ban> {
        self.held.values().filter(move |ban| ban.stands(now))
    }

    /// What to keep over a restart; whatever has ended meanwhile is left out by then.
    pub fn rows(&self) -> Vec<BanRow> {
        self.held.values().map(Ban::row).collect()
    }

    /// The ban of this node, if it stands.
    pub fn of_node(&self, id: ControllerId, now: Now) -> Option<&Ban> {
        self.held.get(&Target::Node(id)).filter(|ban| ban.stands(now))
    }

    /// The narrowest ban that stands and holds this address.
    pub fn of_address(&self, ip: IpAddr, now: Now) -> Option<&Ban> {
        if self.held.is_empty() {
            return None;
        }
        // One look for each length of a prefix, however many bans there are.
        let ip = ip.to_canonical();
        let ban = |bits| self.held.get(&Target::Addresses(Prefix::around(ip, bits))).filter(|ban| ban.stands(now));
        (0..=width(ip)).rev().find_map(ban)
    }

    /// The narrowest range that stands and holds all of this one.
    pub fn around(&self, range: Prefix, now: Now) -> Option<Prefix> {
        let ranges = self.iter(now).filter_map(|ban| match ban.target {
            Target::Addresses(held) => held.holds_all(&range).then_some(held),
            Target::Node(_) => None,
        });
        ranges.max_by_key(Prefix::bits)
    }

    /// When the first of them ends.
    pub fn next_end(&self, now: Now) -> Option<Time> {
        let first = self.iter(now).map(|ban| ban.until_ms).min()?;
        Some(now.mono + Duration::from_millis(first.saturating_sub(now.wall_ms)))
    }

    /// Rises whenever there is something new to keep.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node {}", &id.hex()[..8]),
            Self::Addresses(prefix) => prefix.fmt(f),
        }
    }
}

impl Note {
    /// The longest, in characters: a sentence that fits the row of a table.
    pub const MAX: usize = 200;
}

impl FromStr for Note {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.chars().count() {
            0 => Err("is empty; leave it out, or say why".to_owned()),
            length if length > Self::MAX => Err(format!("has {length} characters, and {} are allowed", Self::MAX)),
            _ if text.chars().any(char::is_control) => {
                Err("has a control character; write it as one line of plain text".to_owned())
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are {} bans, as many as limits.max_bans allows: take one back with 'kithd unban', ban a wider range, or raise the limit",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Time(seconds * 1_000_000), wall_ms: 1_795_254_185_000 + seconds * 1000 }
    }

    fn ban(target: Target, until: Now) -> Ban {
        Ban { target, label: None, until_ms: until.wall_ms, note: None }
    }

    fn range(text: &str) -> Target {
        Target::Addresses(text.parse().unwrap())
    }

    fn node(number: u8) -> Target {
        Target::Node(ControllerId([number; 32]))
    }

    #[test]
    fn a_ban_ends_by_itself_and_is_dropped() {
        let mut bans = Bans::new(2);
        bans.insert(ban(node(1), at(10)), at(0)).unwrap();
        bans.insert(ban(range("10.0.0.0/8"), at(20)), at(0)).unwrap();
        let (id, ip) = (ControllerId([1; 32]), "10.9.9.9".parse().unwrap());
        assert!(bans.of_node(id, at(9)).is_some() && bans.of_address(ip, at(19)).is_some());
        assert!(bans.of_node(id, at(10)).is_none() && bans.of_address(ip, at(20)).is_none());
        assert_eq!(
            (bans.next_end(at(0)), bans.next_end(at(15)), bans.next_end(at(20))),
            (Some(at(10).mono), Some(at(20).mono), None)
        );
        let stamp = bans.stamp();
        bans.expire(at(5));
        assert_eq!((bans.stamp(), bans.iter(at(5)).count()), (stamp, 2));
        bans.expire(at(15));
        assert_eq!((bans.stamp() > stamp, bans.held.len()), (true, 1));
    }

    #[test]
    fn there_are_only_so_many_and_none_is_given_up_for_another() {
        let mut bans = Bans::new(2);
        bans.insert(ban(node(1), at(10)), at(0)).unwrap();
        bans.insert(ban(node(2), at(30)), at(0)).unwrap();
        assert_eq!(bans.insert(ban(node(3), at(30)), at(0)), Err(Full(2)));
        assert_eq!(bans.insert(ban(node(2), at(40)), at(0)), Ok(()), "the same one anew");
        assert_eq!(bans.insert(ban(node(3), at(30)), at(10)), Ok(()), "the first has ended");
        assert_eq!(bans.remove(&node(2)).map(|ban| ban.until_ms), Some(at(40).wall_ms));
        assert_eq!(bans.remove(&node(2)), None);
    }

    #[test]
    fn the_narrowest_ban_is_the_one_shown() {
        let mut bans = Bans::new(9);
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.7", "::/0"] {
            bans.insert(ban(range(text), at(10)), at(0)).unwrap();
        }
        let shown = |ip: &str| bans.of_address(ip.parse().unwrap(), at(0)).map(|ban| ban.target.to_string());
        assert_eq!(shown("::ffff:10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(shown("10.0.0.8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(shown("11.0.0.8").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(shown("::1").as_deref(), Some("::/0"));
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_wrong_is_counted() {
        let whole = Ban {
            target: node(7),
            label: Some(Label::from_lossy("gamma")),
            until_ms: at(60).wall_ms,
            note: Some("spams".parse().unwrap()),
        };
        let rows = [whole.row(), ban(range("10.0.0.0/8"), at(50)).row(), ban(node(8), at(1)).row()];
        let (bans, lost) = Bans::restore(&rows, 9, at(2));
        assert_eq!((bans.iter(at(2)).count(), lost), (2, 0), "the third has ended");
        assert_eq!(bans.of_node(ControllerId([7; 32]), at(2)), Some(&whole));

        let wrong = |change: fn(&mut BanRow)| {
            let mut row = whole.row();
            change(&mut row);
            row
        };
        let rows = [
            wrong(|row| row.id = None),
            wrong(|row| row.id = Some("7".repeat(63))),
            wrong(|row| row.address = Some("10.0.0.7".to_owned())),
            wrong(|row| (row.id, row.address) = (None, Some("10.0.0.7/8".to_owned()))),
            wrong(|row| row.until = "tomorrow".to_owned()),
            wrong(|row| row.label = Some("a b".to_owned())),
            wrong(|row| row.reason = Some("\n".to_owned())),
            whole.row(),
        ];
        let (bans, lost) = Bans::restore(&rows, 9, at(2));
        assert_eq!((bans.iter(at(2)).count(), lost), (1, 7));

        let rows: Vec<BanRow> = (1..=5).map(|number| ban(node(number), at(10 * u64::from(number))).row()).collect();
        let (bans, lost) = Bans::restore(&rows, 2, at(0));
        let left: Vec<Target> = bans.iter(at(0)).map(|ban| ban.target).collect();
        assert_eq!((left, lost), (vec![node(4), node(5)], 3), "those that last longest");
    }

    #[test]
    fn a_note_is_one_short_line() {
        assert!("because of \u{e9}".parse::<Note>().is_ok() && "x".repeat(200).parse::<Note>().is_ok());
        for text in ["", "a\nb", "\u{1b}[31m", "\u{85}", &"x".repeat(201)] {
            assert!(text.parse::<Note>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_look_finds_what_any_ban_holds(bans in prop::collection::vec((any::<u128>(), 0u8..=128), 0..6), ip: u128) {
            let mut held = Bans::new(9);
            // Few bits, so that some of them meet.
            let few = |ip: u128| IpAddr::V6(Ipv6Addr::from_bits(ip & (7 << 125) | 1));
            let bans: Vec<Prefix> = bans.into_iter().map(|(ip, bits)| Prefix::around(few(ip), bits)).collect();
            for prefix in &bans {
                held.insert(ban(Target::Addresses(*prefix), at(9)), at(0)).unwrap();
            }
            let expected = bans.iter().any(|prefix| prefix.holds(few(ip)));
            prop_assert_eq!(held.of_address(few(ip), at(0)).is_some(), expected);
        }
    }
}
