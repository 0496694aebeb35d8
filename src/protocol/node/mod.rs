//! The node's thinking as one state machine: what its controller loops call, and what the simulator runs.
//!
//! ```text
//!   access      who is kept out: bans, the allow-list                   Accepted, Hello, Welcome
//!   admission   who may become a peer, and what a closed one means      Hello, Welcome, Closed
//!   alarm       when many neighbours fall silent at once                Silent, the tick of "monitor idle"
//!   gossip      news in and out                                         Push, News
//!   outbox      what each link is still to be told                      Push, News
//!   spreading   over which edges changes go at once                     the tick of "monitor idle"
//!   crowds      what is otherwise among thousands                       all of these
//!   comparing   views that differ                                       Sync, Differences
//!   places      who gets one of a bounded number                        Accepted, Hello
//!   calling     the roll call on the view                               Push, News
//!   census      counting the network, for a user or a tail              Census, Counted
//!   candidates  whom an edge may lead to
//!   heal        dials to nodes that are down
//!   idle        whom to dial now                                        the tick of "monitor idle"
//!   random      edges to nobody in particular                           the tick of "monitor idle"
//!   expecting   nodes that should be there, and are not                the tick of "monitor idle"
//!   reaching    edges that applications ask for
//!   rotation    links made with a network key that is not the first     the tick of "monitor idle"
//!   rounds      records, verdicts, flushes that are due                 the tick of "network discovery"
//!   screening   news that is outdated or contradicts itself            Push, News
//!   verdicts    accusations, and verdicts that come before them        Push, News
//!   naming      which node a user means
//!   tagging     what its user says about this node
//!   lives       what happened to whom                                whatever changes the view, dials and their ends
//!   explaining  the same for whoever asks why, and what is next
//!   reporting   copies for the user
//! ```
//!
//! [`Node::handle`] takes one input and adds what is to be done to a list of actions; it never waits and does a bounded
//! amount of work. After each call the driver asks [`Node::idle_due`] and [`Node::discovery_due`] when the two ticks are
//! wanted; there is no tick while nothing waits for one.

mod access;
mod admission;
mod alarm;
mod calling;
mod candidates;
mod census;
mod comparing;
mod crowds;
mod exchange;
mod expecting;
mod explaining;
mod gossip;
mod heal;
mod idle;
mod link;
mod lives;
mod naming;
mod outbox;
mod places;
mod random;
mod reaching;
mod reporting;
mod rotation;
mod rounds;
mod screening;
mod settings;
mod sizes;
mod spreading;
mod tagging;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::alarm::Alarm;
use super::address::HostPort;
use super::address_book::AddressBook;
use super::admission_rate::AdmissionRate;
use super::bans::Bans;
use super::bucket::Bucket;
use super::chronicle::{Chronicle, What};
use super::conduct::Conduct;
use super::discovery::agreement::{Agreement, Claim};
use super::discovery::census::Censuses;
use super::discovery::credence::Credence;
use super::discovery::detector::Detector;
use super::discovery::feed::Feed;
use super::discovery::overlay::Rings;
use super::discovery::publisher::Publisher;
use super::discovery::roll_call::RollCall;
use super::discovery::wants::Wants;
use super::expected::Expectations;
use super::hash::Hash;
use super::identity::{ControllerId, Label, PeerId, ShortId};
use super::key_mark::KeyMark;
use super::message::Purpose;
use super::open_requests::MAX_WATCHES;
use super::peer_state::{Command, PeerEvent};
use super::reason::Reason;
use super::record::{RENEWAL, Reach, Record, RecordState, Signer, Verified, VerifiedItem};
use super::report::Status;
use super::rng::Rng;
use super::time::{Now, Time};
use super::view::View;

use crowds::UNSTATED;
use heal::Lost;
use reaching::Unreached;
use verdicts::Called;

pub use access::NotBanned;
pub use exchange::{Action, Event, Input, Notice, Outcome, Ticket};
pub use link::{ClosedPeer, Contact, Link, Phase};
pub use settings::{MAX_KEPT, Memory, Settings};

/// Closed peers remembered for `kithd peers --all`, about 200 bytes each.
const MAX_CLOSED: usize = 256;
/// Dials under way to find out whether newcomers can be reached: each costs a socket and a thread, and goes to an address
/// that its node has chosen.
const MAX_DIAL_BACKS: usize = 32;
/// Newcomers that wait for such a dial, 32 bytes each: as many as may be unknown at once, and more. Whoever finds no
/// place asks again with its next connection.
const MAX_DIAL_BACKS_WAITING: usize = 1024;
/// The last nodes that joined, to be named to those that find no room here.
const MAX_RECENT: usize = 16;

/// The whole thinking of one node.
pub struct Node {
    settings: Settings,
    me: ControllerId,
    signer: Box<dyn Signer>,
    incarnation: u64,
    rng: Rng,
    version: u64,
    issued: u32,
    state: RecordState,
    reach: Reach,
    reach_due: Option<Time>,
    foreign_incarnation: Option<u64>,
    record: Verified<Record>,
    view: View,
    /// Boxed: a link is large, and a map's nodes are half empty where keys only ever grow.
    links: BTreeMap<PeerId, Box<Link>>,
    closed: VecDeque<ClosedPeer>,
    keys: Vec<KeyMark>,
    next_peer: u64,
    admission_rate: AdmissionRate,
    book: AddressBook,
    bans: Bans,
    allowed: BTreeSet<ControllerId>,
    dial_rate: Bucket,
    arrival_rate: Bucket,
    rings: Rings,
    recent: VecDeque<ControllerId>,
    lost: VecDeque<Lost>,
    unreached: Unreached,
    heal_due: Option<Time>,
    censuses: Censuses,
    feed: Feed,
    wants: Wants,
    held_due: Option<Time>,
    publisher: Publisher,
    detector: Detector,
    credence: Credence,
    orphans_due: Option<Time>,
    agreement: Agreement,
    roll_call: RollCall,
    dial_backs: VecDeque<(Time, ControllerId)>,
    called: BTreeMap<ShortId, Called>,
    verdicts: BTreeSet<(Time, ShortId)>,
    alarm: Alarm,
    fresh: BTreeSet<ShortId>,
    waiting_for_names: BTreeMap<HostPort, Vec<Ticket>>,
    idle_due: Option<Time>,
    last_idle: Time,
    volunteers_due: Time,
    settled: bool,
    refused: BTreeMap<Reason, u64>,
    dropped: BTreeMap<Reason, u64>,
    conduct: Conduct,
    chronicle: Chronicle,
    expectations: Expectations,
    equivocators: BTreeSet<ControllerId>,
    expiry_due: Option<Time>,
    renewal_due: Time,
    timed_out: u64,
    joined: u64,
    warnings: BTreeMap<&'static str, String>,
}

type Actions = Vec<Action>;

impl Node {
    /// A node at its start, which has published its first record. `seed` feeds every choice it makes.
    pub fn new(settings: Settings, signer: Box<dyn Signer>, memory: &Memory, seed: u64, now: Now) -> Self {
        let mut rng = Rng::new(seed);
        let me = signer.id();
        let mut book = AddressBook::new(settings.max_addresses, settings.max_addresses_per_source);
        for address in &settings.connect {
            book.configure(address.clone(), now.mono);
        }
        book.remember(&memory.addresses, now.mono);
        let times = settings.peer;
        let between = times.between(Purpose::Overlay);
        let fresh = (between * 2).max(times.timeout) + between;
        let (incarnation, version) = (rng.next_u64(), memory.version.saturating_add(1).max(now.wall_ms));
        let view = View::around(&me, settings.max_nodes);
        let feed = Feed::new(settings.flush_first, settings.flush_interval);
        let wants = Wants::new(settings.max_nodes);
        let publisher = Publisher::new(settings.publish_stability, settings.publish_interval);
        let detector = Detector::new(settings.refute_window);
        let record = rounds::first_record(&settings, &*signer, incarnation, version, now);
        let mut node = Self {
            me,
            signer,
            incarnation,
            rng,
            version,
            issued: now.wall_hours(),
            state: RecordState::Up,
            reach: Reach::Unproven,
            reach_due: None,
            foreign_incarnation: None,
            record: record.clone(),
            view,
            links: BTreeMap::new(),
            closed: VecDeque::new(),
            keys: Vec::new(),
            next_peer: 1,
            admission_rate: AdmissionRate::new(settings.admission),
            book,
            bans: Bans::new(settings.max_bans),
            allowed: settings.allow.iter().copied().collect(),
            dial_rate: Bucket::full(now.mono),
            arrival_rate: Bucket::full(now.mono),
            rings: Rings::new(&me),
            recent: VecDeque::new(),
            lost: VecDeque::new(),
            unreached: Unreached::default(),
            heal_due: None,
            censuses: Censuses::default(),
            feed,
            wants,
            held_due: None,
            publisher,
            detector,
            credence: Credence::default(),
            orphans_due: None,
            agreement: Agreement::new(fresh),
            roll_call: RollCall::new(me),
            dial_backs: VecDeque::new(),
            called: BTreeMap::new(),
            verdicts: BTreeSet::new(),
            alarm: Alarm::default(),
            fresh: BTreeSet::new(),
            waiting_for_names: BTreeMap::new(),
            idle_due: Some(now.mono),
            last_idle: Time::ZERO,
            volunteers_due: Time::ZERO,
            settled: false,
            refused: BTreeMap::new(),
            dropped: BTreeMap::new(),
            conduct: Conduct::default(),
            chronicle: Chronicle::new(settings.max_events),
            expectations: Expectations::default(),
            equivocators: BTreeSet::new(),
            expiry_due: None,
            renewal_due: now.mono + RENEWAL,
            timed_out: 0,
            joined: 0,
            warnings: BTreeMap::new(),
            settings,
        };
        node.restore_bans(now, &memory.bans);
        node.expectations.set(&node.settings.expect);
        node.expectations.restore(&memory.expected);
        node.view.merge(VerifiedItem::Record(record));
        node.note(now, me, What::Status(Status::Up), None, &[]);
        node.publisher.published(now.mono);
        node.agreement.observe(&node.view, now.mono);
        node
    }

    /// The one door in. What is to be done is added to `actions`, in order.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Actions) {
        match input {
            Input::Peer(peer, event) => self.peer_event(now, peer, event, actions),
            Input::Resolved(address, found) => self.resolved(now, address, found, actions),
            Input::Connect(address, ticket) => self.connect_for_user(now, address, ticket, actions),
            Input::Disconnect(peers) => {
                actions.extend(peers.into_iter().map(|peer| Action::Command(peer, Command::Close(Reason::Local))));
            }
            Input::Forget(id) => self.forget(now, id, actions),
            Input::Tags(tags) => self.tag(tags),
            Input::Census(nonce, mode, ticket) => self.count_for_user(now, nonce, mode, ticket, actions),
            Input::Reach { id, stale, idlest, ticket } => self.reach(now, id, (stale, idlest), ticket, actions),
            Input::Leave => self.leave(now, actions),
            Input::Keys(keys) => self.hold_keys(now, keys),
            Input::CloseAll(reason) => {
                actions.extend(self.links.keys().map(|peer| Action::Command(*peer, Command::Close(reason))));
            }
            Input::Idle => {
                self.note_tick(self.idle_due, now.mono);
                self.idle(now, actions);
            }
            Input::Discovery => {
                self.note_tick(self.discovery_due(), now.mono);
                self.discovery(now, actions);
            }
        }
        self.view_observed(now.mono);
    }

    /// When the next [`Input::Idle`] is wanted.
    pub fn idle_due(&self) -> Option<Time> {
        self.idle_due
    }

    /// When the next [`Input::Discovery`] is wanted.
    pub fn discovery_due(&self) -> Option<Time> {
        let publish = self.publisher.due(self.settled, self.is_crowded());
        let renewal = Some(self.renewal_due).filter(|_| self.state == RecordState::Up);
        let news = [self.feed.due(), self.wants.deadline(), self.held_due];
        let beats = [self.detector.deadline(), self.verdicts_due(), self.roll_due()];
        [publish, renewal, self.expiry_due, self.reach_due, self.orphans_due, self.censuses.due()]
            .into_iter()
            .chain(news)
            .chain(beats)
            .flatten()
            .min()
    }

    /// This node's statement for heartbeats: true from now until the next call of [`Node::handle`].
    pub fn claim(&self, now: Now) -> Claim {
        match self.is_in_flux(now.mono) {
            true => Claim { digest: UNSTATED, ages: Vec::new(), at: now.mono, expires: now.mono },
            false => self.agreement.claim(&self.me, &self.view, now.mono),
        }
    }

    /// The digest of the view.
    pub fn digest(&self) -> Hash {
        self.view.digest()
    }

    /// What this node knows of the whole network.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// This node's id.
    pub fn id(&self) -> ControllerId {
        self.me
    }

    /// Changes whenever [`Node::memory`] has something new that is worth writing.
    pub fn memory_stamp(&self) -> u64 {
        self.book.stamp() + self.joined + self.bans.stamp() + self.expectations.stamp()
    }

    /// True once all neighbours have this node's farewell, or there is none.
    pub fn farewell_delivered(&self) -> bool {
        let done = |(_, link): (_, &Link)| !link.is_edge() || (link.owed.is_empty() && link.pushes.is_empty());
        self.feed.due().is_none() && self.links().all(done)
    }

    /// The label of a node in the view.
    pub fn label_of(&self, id: &ControllerId) -> Option<&Label> {
        Some(&self.view.get(id)?.record().body.label)
    }

    /// The open connections with a node.
    pub fn links_with(&self, id: &ControllerId) -> Vec<PeerId> {
        self.links.iter().filter(|(_, link)| link.node == Some(*id)).map(|(peer, _)| *peer).collect()
    }

    /// All open connections.
    pub fn links(&self) -> impl Iterator<Item = (PeerId, &Link)> + Clone {
        self.links.iter().map(|(peer, link)| (*peer, link.as_ref()))
    }

    /// One open connection.
    pub fn link(&self, peer: PeerId) -> Option<&Link> {
        self.links.get(&peer).map(Box::as_ref)
    }

    /// Counts something that was refused or closed for cause before it reached [`Node::handle`].
    pub fn count_refused(&mut self, reason: Reason) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Counts something that was thrown away.
    pub fn count_dropped(&mut self, reason: Reason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Says what the user should know, under a name by which it is replaced or taken back.
    pub fn warn(&mut self, about: &'static str, warning: Option<String>) {
        match warning {
            Some(text) => self.warnings.insert(about, text),
            None => self.warnings.remove(about),
        };
    }

    /// True if there is a warning under this name.
    pub fn has_warning(&self, about: &'static str) -> bool {
        self.warnings.contains_key(about)
    }

    fn peer_event(&mut self, now: Now, peer: PeerId, event: Event, actions: &mut Actions) {
        let Some(link) = self.links.get(&peer) else { return };
        if let (Phase::Established, Some(id)) = (link.phase, link.node)
            && !matches!(event, PeerEvent::Silent | PeerEvent::Closed { .. })
            && self.detector.life(&id, now.mono)
        {
            self.place_on_rings(now, &id);
        }
        let Some(link) = self.links.get_mut(&peer) else { return };
        match event {
            PeerEvent::Connected => link.enter(Phase::Handshaking, now.mono),
            PeerEvent::Secured(key) => self.secured(now, peer, key),
            PeerEvent::Hello { record, clock_ms, purpose, dialled } => {
                self.hello(now, peer, record, clock_ms, purpose, dialled, actions);
            }
            PeerEvent::Welcome { record, clock_ms } => self.welcome(now, peer, record, clock_ms, actions),
            PeerEvent::Busy { record, hints } => self.busy(now, peer, record, &hints, actions),
            PeerEvent::Repurpose(purpose) => self.repurposed(now, peer, purpose, actions),
            PeerEvent::Kept => self.kept(now, peer),
            PeerEvent::Statement(statement, dated) => {
                self.beaten(now.mono, peer, dated, actions);
                self.statement(now, peer, statement, dated, actions);
            }
            PeerEvent::RoundTrip(span) => link.measured(span),
            PeerEvent::Watch => {
                link.watches = (link.watches + 1).min(MAX_WATCHES as u8);
                self.send_news(now.mono, peer, actions);
            }
            PeerEvent::Push(said) => self.pushed(now, peer, said, actions),
            PeerEvent::News(said, kind) => self.news(now, peer, said, kind, actions),
            PeerEvent::Eager(eager) => link.eager = eager,
            PeerEvent::Sync(first, buckets) => self.compare(peer, first, &buckets, actions),
            PeerEvent::Differences(last, buckets, entries) => {
                self.differences(now, peer, (last, &buckets), &entries, actions);
            }
            PeerEvent::Census(nonce, mode, ms) => self.count_for_tail(now, peer, nonce, mode, ms, actions),
            PeerEvent::Counted(nonce, returns) => self.counted(now, peer, nonce, returns, actions),
            PeerEvent::Silent => {
                link.silent = true;
                self.miss_silent(now, link::id_of(&self.links, peer));
                self.look_around(now, actions);
            }
            PeerEvent::Alive => link.silent = false,
            PeerEvent::Closed { reason, by_remote } => self.closed(now, peer, reason, by_remote, actions),
        }
    }

    fn leave(&mut self, now: Now, actions: &mut Actions) {
        self.state = RecordState::Left;
        self.publish(now, actions);
        self.flush(now, actions);
    }

    /// Follows up on whatever may have changed the view: what was shown of the old one is not shown of the new.
    fn view_observed(&mut self, now: Time) {
        if self.agreement.observe(&self.view, now) {
            self.roll_call.changed(now);
        }
    }

    /// Wants a tick of monitor idle soon; a burst of events shares one.
    fn stir(&mut self, now: Now) {
        let soon = now.mono.max(self.last_idle + Duration::from_millis(20));
        self.idle_due = Some(self.idle_due.map_or(soon, |due| due.min(soon)));
    }

    /// Misses a node that takes part; a probe is then wanted, and has so long to find it.
    fn miss(&mut self, now: Now, id: Option<ControllerId>, patience: Duration) {
        let may_look = |id: &ControllerId| *id != self.me && !self.is_kept_out(now, *id);
        let Some(id) = id.filter(|id| may_look(id) && self.state == RecordState::Up) else { return };
        if self.view.get(&id).is_some_and(|entry| entry.is_up()) && self.detector.silent(id, patience, now.mono) {
            self.note(now, id, What::Missed, None, &[]);
            self.stir(now);
        }
    }
}

#[cfg(test)]
mod tests;
