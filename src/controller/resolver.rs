//! The resolver: names to addresses, on a thread of its own, since the system's resolver may take half a minute.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use super::lines::Call;
use super::registry::Registry;
use crate::config::host_names::{SYSTEM_LOOKS_UP, without_look_up};
use crate::protocol::address::{HostPort, dialable};

/// Addresses taken of one answer: a name with a thousand is a mistake or an attack.
const MAX_ANSWERS: usize = 16;

/// Runs until its channel ends.
pub fn run(registry: &Arc<Registry>, names: &Receiver<Option<HostPort>>) {
    while let Ok(Some(address)) = names.recv() {
        registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
        let found = look_up(&address);
        if registry.lines().main.send(Call::Resolved(address, found)).is_err() {
            return;
        }
    }
}

fn look_up(address: &HostPort) -> Vec<SocketAddr> {
    let (host, port) = match address {
        HostPort::Ip(address) => return vec![*address],
        HostPort::Name { host, port } => (host.as_str(), *port),
    };
    // A constant: in a binary where this holds there is not even a call of the system's resolver, which might crash it.
    if !SYSTEM_LOOKS_UP {
        // What a configuration says was checked; a name may still come from a state directory that another binary wrote.
        return without_look_up(host).iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    }
    match (host, port).to_socket_addrs() {
        Ok(found) => found.filter(|found| dialable(*found).is_ok()).take(MAX_ANSWERS).collect(),
        Err(error) => {
            log::debug!("{address} has no address: {error}");
            Vec::new()
        }
    }
}
