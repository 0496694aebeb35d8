//! Bans as a user or a program asks for them: what they write becomes a target, and what became of it is on disk before
//! they hear of it, as far as the disk can be written.

use std::fmt;
use std::time::Duration;

use crossbeam_channel::TrySendError;

use super::lines::StatusCall;
use super::registry::Registry;
use crate::config::duration;
use crate::protocol::bans::{Ban, Full, Target};
use crate::protocol::node::NotBanned;
use crate::protocol::prefix::Prefix;
use crate::protocol::report::{BanReport, BansReport, SCHEMA, UnbanReport};

/// Why a ban was not made or not taken back; each is one line with its cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// What was written is neither node nor address, or another argument is wrong.
    Wrong(String),
    /// No node is known by that name. A label that nobody has cannot be banned: whoever comes could have another one.
    UnknownNode(String),
    /// The text may mean more than one node, or ban: these.
    Ambiguous(String, String),
    /// There is no such ban.
    NotBanned(String),
    /// The address is banned with others: by that range.
    Within(String, Prefix),
    /// It is the node itself.
    Myself,
    /// There is no room.
    Full(Full),
}

/// Keeps a node or a range of addresses out, and closes its connections.
pub fn ban(registry: &Registry, text: &str, span: Duration, reason: Option<&str>) -> Result<BanReport, AccessError> {
    let (least, most) = (Ban::SHORTEST, Ban::LONGEST);
    if !(least..=most).contains(&span) {
        let (least, most) = (duration::text(least), duration::text(most));
        return Err(AccessError::Wrong(format!("a ban lasts from {least} to {most}, not {}", duration::text(span))));
    }
    let note = reason.map(str::parse).transpose().map_err(|why| AccessError::Wrong(format!("the reason {why}")))?;
    let ban = registry.think(|node, now, actions| {
        let target = if Prefix::is_meant(text) {
            let range = text.parse().map_err(|why| AccessError::Wrong(format!("{text:?} {why}")))?;
            Target::Addresses(range)
        } else if let Ok(id) = text.parse() {
            Target::Node(id)
        } else {
            match node.find(text).as_slice() {
                [id] => Target::Node(*id),
                [] => return Err(AccessError::UnknownNode(text.to_owned())),
                several => return Err(AccessError::Ambiguous(text.to_owned(), node.names_of(several))),
            }
        };
        let label = match target {
            Target::Node(id) => node.label_of(&id).cloned(),
            Target::Addresses(_) => None,
        };
        let until_ms = now.wall_ms.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let ban = Ban { target, label, until_ms, note };
        match node.ban(now, ban.clone(), actions) {
            Ok(closed) => Ok((ban, closed)),
            Err(NotBanned::Myself) => Err(AccessError::Myself),
            Err(NotBanned::Full(full)) => Err(AccessError::Full(full)),
        }
    });
    let (ban, closed) = ban?;
    let row = ban.row();
    log::info!("{} is banned until {}; {} connections close", ban.target, row.until, closed.len());
    Ok(BanReport { schema: SCHEMA, ban: row, closed: closed.into_iter().map(|peer| peer.0).collect() })
}

/// Takes a ban back.
pub fn unban(registry: &Registry, text: &str) -> Result<UnbanReport, AccessError> {
    let range: Option<Result<Prefix, _>> = Prefix::is_meant(text).then(|| text.parse());
    if let Some(Err(why)) = range {
        return Err(AccessError::Wrong(format!("{text:?} {why}")));
    }
    let ban = registry.think(|node, now, _| match node.find_bans(now, text).as_slice() {
        [target] => node.unban(now, target).ok_or_else(|| AccessError::NotBanned(text.to_owned())),
        [] => Err(match range.and_then(|range| node.bans().around(range.ok()?, now)) {
            Some(wider) => AccessError::Within(text.to_owned(), wider),
            None => AccessError::NotBanned(text.to_owned()),
        }),
        several => {
            let ids: Vec<_> = several
                .iter()
                .filter_map(|target| match target {
                    Target::Node(id) => Some(*id),
                    Target::Addresses(_) => None,
                })
                .collect();
            Err(AccessError::Ambiguous(text.to_owned(), node.names_of(&ids)))
        }
    })?;
    log::info!("{} is banned no more", ban.target);
    Ok(UnbanReport { schema: SCHEMA, ban: ban.row() })
}

/// All bans that stand.
pub fn bans(registry: &Registry) -> BansReport {
    let rows = registry.read(|node, now| node.bans().iter(now).map(Ban::row).collect());
    BansReport { schema: SCHEMA, bans: rows }
}

/// Calls `then` once what is to be kept has been written, or could not be, which the report then warns of.
pub fn once_kept(registry: &Registry, then: impl FnOnce() + Send + 'static) {
    let asked = registry.lines().status.try_send(StatusCall::SaveNow(Box::new(then)));
    if let Err(TrySendError::Full(StatusCall::SaveNow(then)) | TrySendError::Disconnected(StatusCall::SaveNow(then))) =
        asked
    {
        // It is written a little later, as any news.
        then();
    }
}

impl AccessError {
    /// The word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "usage",
            Self::UnknownNode(_) => "unknown-node",
            Self::Ambiguous(..) => "ambiguous-node",
            Self::NotBanned(_) => "not-banned",
            Self::Within(..) => "banned-with-others",
            Self::Myself => "self",
            Self::Full(_) => "too-many-bans",
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(why) => f.write_str(why),
            Self::UnknownNode(text) => write!(
                f,
                "no node is called {text:?}: see 'kithd network', or name it by its whole id or an address (a label nobody has cannot be banned)"
            ),
            Self::Ambiguous(text, names) => {
                write!(f, "{text:?} may be {names}: give more of the id, see 'kithd network' and 'kithd bans'")
            }
            Self::NotBanned(text) => write!(f, "{text:?} is not banned: see 'kithd bans'"),
            Self::Within(text, range) => {
                write!(f, "{text:?} is banned with all of {range}: take that back with 'kithd unban {range}'")
            }
            Self::Myself => {
                f.write_str("a node cannot ban itself: name another one, or end this one with 'kithd leave'")
            }
            Self::Full(full) => full.fmt(f),
        }
    }
}

impl std::error::Error for AccessError {}
