//! Network discovery: how the whole network comes to the same view, and shows it.
//!
//! ```text
//!  feed        what changed and whom it has not reached yet           Push, News
//!  wants       what is lacking and who was asked for it               Push, News
//!  publisher   when this node says something new of itself            Record
//!  detector    from silence over suspicion to a witness of death      Witness
//!  credence    whose accusations are still heard                      Witness
//!  overlay     which nodes to be linked to                            dials
//!  graph       the graph that a view fixes, and the tree in it
//!  agreement   how far around the same view is shown to be held       Heartbeat
//!  roll_call   that all hold it                                       Push, News
//!  census      who says so when asked, signed if need be              Census
//! ```
//!
//! Each is a small state machine of its own; [`node`](super::node) joins them, [`message`](super::message) is what they say,
//! [`wire`](super::wire) how it is written.
//!
//! # In one paragraph
//!
//! Every node signs one record of itself: address, label, tags, and the heads of its own edges. A record is flooded when it
//! changes, over a bounded overlay of directed edges, and repaired by comparing digests; whether a node lives is what signed
//! witnesses say of one version of its record. Nothing is gossiped while nothing changes. Since every node holds the whole
//! membership, the view itself is the address book, and there is nothing to shuffle and no random walk.
//!
//! # How edges come about
//!
//! A node dials its successor on each of two rings once it has been the same for 150 ms, and random nodes beside them. A random
//! dial that takes longer than 300 ms is not waited for: another is made besides, and whoever answers first has the place
//! (`node/link.rs`). A head without room says `Busy`, with up to 16 addresses to try instead. What a network of a thousand
//! waits for while it forms is its slowest handshake; this makes that one not count.
//!
//! # The life of a change
//!
//! ```text
//!   a node publishes ──▶ its feed: 5 ms later over its eager edges, in full if it is one of few (4 records,
//!        │                          or 16 words of witnesses: a hop that only announces takes three times as long),
//!        │                          else announced (17 bytes), wanted of the first who announces it, then sent
//!        │ 50 ms at least between two flushes of one node
//!        ▼
//!   everybody merges it (view.rs), and does the same; over edges that are not eager it is held for a second,
//!        │                          and announced then to whoever has not shown by then that it has it
//!        ▼
//!   50 ms of quiet: the roll call ──▶ all know that all hold it
//! ```
//!
//! Whoever was asked for something and does not send it within 400 ms, or is gone, is followed by the next of three who
//! announced it ([`wants`]); whoever announced another verdict than the one that came is asked as well.
//!
//! # The death of a node
//!
//! ```text
//!   silence: 500 ms after a heartbeat was due ──▶ a fresh dial ──▶ 700 ms, or evidence ──▶ stage 1, flooded
//!   reset:   the connection breaks ─────────────▶ a fresh dial, refused ────────────────▶ stage 1, flooded
//!        others ask it at once over their edges; six on average dial it
//!   2 s after stage 1 was first heard, neither life nor a refutation ──▶ stage 2; as many as are owed (1 to 3): down
//!   it lives: it publishes a greater version, and whatever was said of the lesser is void
//!
//!   one neighbour silent: the node asks all its heads at once; four are missed: it looks for all its tails as well, and
//!                         doubts every dial that is not answered (node/alarm.rs: half a network may be gone)
//!   it cannot be dialled: 2.5 times as long, no probe; its heads judge it, or anybody when none of these is up any more
//!   false alarms:         each of the last 30 s makes the node that raised it wait once as long again, nine times at most
//! ```
//!
//! # What always holds
//!
//! * **Views join.** The merge is commutative, associative and idempotent: any order of the same news gives the same view
//!   (property tests in `view_laws.rs`). Status is a function of the entry alone.
//! * **Only the subject writes its record,** and only what exists can be accused: a witness names the record by its hash.
//! * **The living are not down for longer than a flood.** Every accusation reaches the accused, and any greater version
//!   refutes it. A verdict that nobody was called for is an accusation first (`node/verdicts.rs`).
//! * **Whoever accuses falsely is heard ever less:** twice of one node, of 24 nodes in all, within ten minutes, then once in
//!   half a minute ([`credence`]). A refutation is a flood, and one liar would otherwise cause one after another.
//! * **Nobody is up for want of witnesses.** A node that cannot be dialled is judged by the heads it names; if none of these
//!   is up any more, by anybody, five seconds later.
//! * **The dead do not come back.** A record is not taken in anew 49 hours after it was issued, and dropped only then; those
//!   who live renew theirs each 24 hours.
//! * **No claim of agreement is false** while members are honest: whoever claims that N nodes held a digest within the last
//!   a has it from each of them by a chain of messages, and each step is dated so that the claim can only be weaker than the
//!   truth. Members who lie are what the signed census is for.
//! * **The overlay connects everybody:** the edges to both rings' successors alone make it strongly connected.
//!
//! # What the numbers buy
//!
//! | parameter | default | raised | lowered |
//! | --- | --- | --- | --- |
//! | `heartbeat.interval` on ring edges | 1 s | silence is seen later | more bytes at rest: half of all |
//! | the same on other edges ([`RELAXED`](super::heartbeat::RELAXED)) | 5 s | partial agreement is shown later | three times the bytes at rest |
//! | `heartbeat.timeout` | 500 ms | death is seen later | alarms on slow or lossy links |
//! | probe ([`PROBE`](super::heartbeat::PROBE)) | 700 ms | death is seen later | accusations that are refuted |
//! | patience after false alarms ([`detector`]) | 30 s, up to 9 times | a node that was slow for a moment finds deaths late | a starved node calls others dead again and again |
//! | `discovery.refute_window` | 2 s | death is known later | the living may be called down under loss |
//! | `discovery.out_degree` | 8 | a smaller diameter | fewer bytes, sooner cut apart |
//! | eager edges of these | 4 | more bytes for each change | later, and by the slowest edges |
//! | `discovery.flush_first` | 5 ms | changes wait at each hop | the same change is sent in more pieces |
//! | `discovery.flush_interval` | 50 ms | a network that forms agrees later | more, smaller messages while it does |
//! | a random dial is waited for | 300 ms | the slowest handshake decides when a network agrees | while it forms, nearly everybody is dialled twice |
//! | a ring's successor is dialled after | 150 ms | the rings close later | dials to successors of a moment |
//! | `discovery.publish_stability` | 30 ms | edges are known later | more records while edges settle |
//! | `discovery.publish_interval` | 1 s, three at once | edges are known later | a flapping edge costs everybody more |

pub mod agreement;
pub mod census;
pub mod credence;
pub mod detector;
pub mod feed;
pub mod graph;
pub mod overlay;
pub mod publisher;
pub mod roll_call;
pub mod wants;
