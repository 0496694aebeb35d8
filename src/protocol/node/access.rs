//! Who may come in: bans and the allow-list.
//!
//! ```text
//!   accepted from an address     banned? closed without a word       Node::may_connect
//!   who is there is known        banned? not on the list? told so    Node::may_come_in, at both ends
//!   whom to dial now             the same, before the dial           monitor idle, `kithd connect`
//! ```
//!
//! Both are about this node's own connections. Whoever is kept out here may be a member elsewhere: its record stays in the
//! view, others tell of it, and it counts in the agreement. This node has no edge with it, does not look whether it lives,
//! and therefore never accuses it.

use std::net::{IpAddr, SocketAddr};

use super::link::Link;
use super::{Action, Actions, Node, naming};
use crate::protocol::address::HostPort;
use crate::protocol::bans::{Ban, Bans, Full, Target};
use crate::protocol::chronicle::{Cause, What};
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::peer_state::Command;
use crate::protocol::prefix::Prefix;
use crate::protocol::reason::Reason;
use crate::protocol::report::BanRow;
use crate::protocol::time::Now;

/// Why somebody is not banned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotBanned {
    /// It is the node itself.
    Myself,
    /// There is no room.
    Full(Full),
}

impl Node {
    /// Whether a connection from that address is worth anything at all, before anybody knows whose it is.
    ///
    /// # Errors
    /// [`Reason::Banned`].
    pub fn may_connect(&self, now: Now, ip: IpAddr) -> Result<(), Reason> {
        if self.bans.of_address(ip, now).is_some() { Err(Reason::Banned) } else { Ok(()) }
    }

    /// Whether this node, at that address, may be a neighbour. To be asked once the id is known, by whoever can tell the
    /// remote the answer.
    ///
    /// # Errors
    /// [`Reason::Banned`] or [`Reason::NotAllowed`].
    pub fn may_come_in(&self, now: Now, id: ControllerId, address: SocketAddr) -> Result<(), Reason> {
        self.may_connect(now, address.ip())?;
        if self.bans.of_node(id, now).is_some() {
            return Err(Reason::Banned);
        }
        match self.is_allowed(&id) {
            true => Ok(()),
            false => Err(Reason::NotAllowed),
        }
    }

    /// Keeps somebody out: his connections are closed, new ones refused, and he is not dialled. A ban of the same target
    /// is replaced. Gives back the peers that are to close.
    ///
    /// # Errors
    /// See [`NotBanned`].
    pub fn ban(&mut self, now: Now, ban: Ban, actions: &mut Actions) -> Result<Vec<PeerId>, NotBanned> {
        let target = ban.target;
        if target == Target::Node(self.me) {
            return Err(NotBanned::Myself);
        }
        self.bans.insert(ban, now).map_err(NotBanned::Full)?;
        if let Target::Node(id) = target {
            self.note(now, id, What::Banned, Some(Cause::User), &[]);
            // Nobody will look whether it lives: it is not to be accused of what nobody has seen.
            self.detector.drop_case(&id);
        }
        let closed = self.close_those(Reason::Banned, actions, |_, link| match target {
            Target::Node(id) => link.node == Some(id),
            Target::Addresses(prefix) => prefix.holds(link.address.ip()),
        });
        self.stir(now);
        Ok(closed)
    }

    /// Takes a ban back. Whoever it kept out is dialled again when his turn comes.
    pub fn unban(&mut self, now: Now, target: &Target) -> Option<Ban> {
        let ban = self.bans.remove(target)?;
        self.rings.doubt();
        if let Target::Node(id) = target {
            self.note(now, *id, What::Unbanned, Some(Cause::User), &[]);
        }
        self.stir(now);
        Some(ban)
    }

    /// All bans.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    /// The bans this text may mean: those of exactly these addresses, of a node that has or had this label, or of an id
    /// that begins so.
    pub fn find_bans(&self, now: Now, text: &str) -> Vec<Target> {
        if Prefix::is_meant(text) {
            let meant = text.parse().ok().map(Target::Addresses);
            return meant.into_iter().filter(|target| self.bans.iter(now).any(|ban| ban.target == *target)).collect();
        }
        let nodes = self.bans.iter(now).filter_map(|ban| match ban.target {
            Target::Node(id) => Some((id, ban)),
            Target::Addresses(_) => None,
        });
        let nodes = nodes.map(|(id, ban)| (id, ban.label.as_ref().or(self.label_of(&id))));
        naming::meant(text, nodes).into_iter().map(Target::Node).collect()
    }

    /// From now on only these may be neighbours; none: anybody. Edges with others are closed.
    pub fn allow(&mut self, now: Now, ids: impl IntoIterator<Item = ControllerId>, actions: &mut Actions) {
        self.allowed = ids.into_iter().collect();
        self.rings.doubt();
        self.close_those(Reason::NotAllowed, actions, |node, link| link.node.is_some_and(|id| !node.is_allowed(&id)));
        self.stir(now);
    }

    /// From now on these addresses, and no others, are dialled for ever. Edges that stand stay; those that only stood
    /// because they were configured count as any other.
    pub fn configure(&mut self, now: Now, addresses: &[HostPort]) {
        self.book.configure_only(addresses, now.mono);
        for link in self.links.values_mut() {
            link.pinned =
                link.ticket.is_some() || link.target.as_ref().is_some_and(|target| addresses.contains(target));
        }
        self.stir(now);
    }

    /// What was kept of the bans; a warning for each kind of loss.
    pub(super) fn restore_bans(&mut self, now: Now, rows: &[BanRow]) {
        let (bans, lost) = Bans::restore(rows, self.settings.max_bans, now);
        self.bans = bans;
        let text = format!(
            "{lost} of the bans in known.json were not understood or are more than limits.max_bans: \
             see 'kithd bans', and ban anew whom you miss there"
        );
        self.warn("bans", (lost > 0).then_some(text));
    }

    /// True for a node that this one has no business with: it is neither dialled nor looked for.
    pub(super) fn is_kept_out(&self, now: Now, id: ControllerId) -> bool {
        self.bans.of_node(id, now).is_some() || !self.is_allowed(&id)
    }

    fn is_allowed(&self, id: &ControllerId) -> bool {
        self.allowed.is_empty() || self.allowed.contains(id)
    }

    fn close_those(&self, reason: Reason, actions: &mut Actions, whose: impl Fn(&Self, &Link) -> bool) -> Vec<PeerId> {
        let closed: Vec<PeerId> =
            self.links.iter().filter(|(_, link)| whose(self, link)).map(|(peer, _)| *peer).collect();
        actions.extend(closed.iter().map(|peer| Action::Command(*peer, Command::Close(reason))));
        closed
    }
}
