//! Cases about a system that has no more to give.

use std::os::unix::fs::chown;
use std::process::Command;
use std::time::{Duration, Instant};

use kithd::protocol::codec::encode_frame;

use crate::daemon::{Network, kithd};
use crate::evil_member::{PATIENT, Pair, counted, crowd, item, memory, push};
use crate::patience::{SOON, until};
use crate::report::{agreed, refused};
use crate::stranger::{Line, Stranger, heartbeat, is_end};

/// A user of whom the system knows nothing, so that his threads are the node's alone.
fn nobody() -> u32 {
    60_000 + std::process::id() % 5_000
}

/// One thread a peer is how the node is built: one that the system refuses costs that connection, with a reason, and
/// nothing else.
#[test]
fn case_44_a_thread_that_cannot_be_started_costs_its_connection_only() {
    let user = nobody().to_string();
    let as_user = |then: &str| format!("setpriv --reuid {user} --regid {user} --clear-groups {then}");
    let asked = Command::new("sh").arg("-c").arg(as_user("\"$0\" --version")).arg(kithd().get_program()).output();
    if !asked.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: only root can run a node as a user who has no other threads");
        return;
    }
    let network = Network::new();
    // The node's own threads, those of its edges with one neighbour, and a few more.
    let limits = ["--limits-handshake-timeout", "1s", "--limits-max-admin-clients", "4"];
    let setup = network.node("a").with(&PATIENT).with(&limits);
    chown(setup.home(), Some(nobody()), Some(nobody())).unwrap();
    let pair = Pair::of(network, setup.under(&format!("exec prlimit --nproc=19 {}", as_user(""))).start());

    let lines: Vec<Line> = (0..40).map(|_| Line::to(pair.a.address)).collect();
    counted(&pair.a, "internal", 1);
    for mut line in lines {
        assert_eq!(line.rest(), b"");
    }
    until("each of them is accounted for", SOON, || {
        let [none, late] = ["internal", "handshake-timeout"].map(|reason| refused(&pair.a, reason));
        if none + late == 40 && late > 0 { Ok(()) } else { Err(format!("{none} without a thread, {late} late")) }
    });
    pair.a.says("for want of a thread");
    let said = pair.a.stderr();
    let told = said.lines().filter(|line| line.contains("for want of a thread")).count();
    assert!((1..=20).contains(&told), "{told} lines for one kind of event: {said}");
    let c = pair.network.node("c").with(&PATIENT).connect(pair.a.address).start();
    agreed(&[&pair.a, &pair.b, &c]);
    pair.is_unharmed();
}

/// What the node may take more under attack: its queues' budget of 8 MiB, the stacks of 256 strangers (of each some pages
/// are touched, 48 KiB in code that is not optimised), and as much again for what the allocator keeps.
const CEILING: u64 = 40 << 20;

/// With a bound on its address space (and no more of the allocator's arenas, of 64 MiB of addresses each, than a small
/// machine would make) it lives through silent crowds, a flood, made-up members and
/// somebody who never reads; and it takes far less than its own ceiling.
#[test]
fn case_45_a_memory_limit_from_outside_is_never_met() {
    let network = Network::new();
    let limits = ["--limits-memory-budget", "8MiB", "--limits-handshake-timeout", "30s", "--limits-max-nodes", "256"];
    let setup =
        network.node("a").with(&PATIENT).with(&limits).under("export MALLOC_ARENA_MAX=2; ulimit -v 1048576 && exec");
    let pair = Pair::of(network, setup.start());
    let (at_rest, first) = (memory(&pair.a, "RssAnon"), memory(&pair.a, "VmHWM"));
    let silent: Vec<Line> = (0..300).map(|_| Line::to(pair.a.address)).collect();

    let talker = Stranger::new(&pair.network, "talker");
    let mut line = talker.dial(&pair.a);
    for some in crowd(&pair.network, 500).chunks(50) {
        line.bring(&push(some.iter().map(|one| item(one.record())))).unwrap();
    }
    let deaf = Stranger::new(&pair.network, "deaf");
    let mut line = Line::narrow_to(pair.a.address);
    deaf.introduce(&pair.a, &mut line);
    let many: Vec<u8> = (1..500).flat_map(|seq| encode_frame(&heartbeat(seq))).collect();
    line.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(3) {
        match line.try_say(&many) {
            Ok(()) => sent += many.len(),
            // The node has paused this one, or ended it.
            Err(error) if is_end(&error) || sent > 0 => break,
            Err(error) => panic!("{error}"),
        }
    }
    counted(&pair.a, "too-many-pending", 100);
    println!("{sent} bytes of heartbeats were taken of one who reads no answer");
    drop((silent, line));
    let (peak, now) = (memory(&pair.a, "VmHWM"), memory(&pair.a, "RssAnon"));
    println!("{} KiB at rest, {} KiB now; at most {} KiB more", at_rest >> 10, now >> 10, (peak - first) >> 10);
    assert!(peak < first + CEILING, "{first} bytes at rest, {peak} at most");
    assert!(now < at_rest + CEILING, "{at_rest} bytes at rest, {now} now");
    pair.is_unharmed();
}
