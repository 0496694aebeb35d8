//! What follows from a configuration for the parts of a node.

use std::net::SocketAddr;
use std::sync::OnceLock;

use super::built_in::BuiltIn;
use super::monitor_status::About;
use super::own_address::advertised;
use super::start_error::StartError;
use crate::config::Config;
use crate::protocol::bucket::Rate;
use crate::protocol::chronicle;
use crate::protocol::node::Settings;
use crate::protocol::peer_state::PeerTimes;
use crate::protocol::record::NetworkId;
use crate::protocol::requests::Window;

/// What it says of itself.
///
/// # Errors
/// It has no address that others could dial.
pub fn about(config: &Config, listen: Vec<SocketAddr>) -> Result<About, StartError> {
    // There is at least one listening address: the configuration was checked.
    let first = listen.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    Ok(About {
        label: config.node.label.to_string(),
        network: config.network.name.to_string(),
        advertise: config.listen.advertise.or_else(|| advertised(first)).ok_or(StartError::NoAddress(first))?,
        listen,
        budget: config.limits.queued_total() as u64,
        log: OnceLock::new(),
    })
}

/// The durations of a connection.
pub fn times(config: &Config) -> PeerTimes {
    PeerTimes {
        interval: config.heartbeat.interval,
        timeout: config.heartbeat.timeout,
        dial: config.discovery.dial_timeout,
        handshake: config.limits.handshake_timeout,
    }
}

/// What the configuration's bounds have kept far below the largest.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What its thinking is told.
pub fn settings(config: &Config, advertise: SocketAddr) -> Settings {
    let (discovery, limits) = (&config.discovery, &config.limits);
    Settings {
        label: config.node.label.clone(),
        network: NetworkId::of(config.network.name.as_str()),
        advertise,
        tags: config.node.tags.clone(),
        connect: config.network.connect.clone(),
        expect: config.network.expect.clone(),
        allow: config.network.allow.clone(),
        peer: times(config),
        idle_period: config.monitor.idle_period,
        out_degree: discovery.out_degree,
        accept: discovery.accept,
        accept_ring: discovery.accept_ring,
        flush_first: discovery.flush_first,
        flush_interval: discovery.flush_interval,
        publish_stability: discovery.publish_stability,
        publish_interval: discovery.publish_interval,
        refute_window: discovery.refute_window,
        max_outgoing: limits.max_outgoing,
        max_incoming: limits.max_incoming,
        arrivals: Rate {
            per_second: narrow(limits.connections_per_second),
            burst: narrow(limits.connections_per_second.max(limits.connections_burst)),
        },
        admission: Rate { per_second: narrow(limits.connections_per_prefix), burst: narrow(limits.connections_burst) },
        exempt_loopback: limits.exempt_loopback,
        max_pending: limits.max_pending,
        max_pending_per_prefix: limits.max_pending_per_prefix,
        max_nodes: limits.max_nodes,
        max_addresses: limits.max_addresses,
        max_addresses_per_source: limits.max_addresses_per_source,
        max_bans: limits.max_bans,
        max_events: chronicle::MAX_EVENTS,
    }
}

/// How much one connection may have open in one direction.
pub fn window(config: &Config) -> Window {
    let limits = &config.limits;
    Window { requests: limits.max_outstanding, bytes: limits.outstanding_bytes(), payload: limits.max_payload }
}

/// Which services of its own a node has.
pub fn built_ins(config: &Config) -> BuiltIn {
    let requests = &config.requests;
    BuiltIn { echo: requests.echo, status: requests.status, identity: requests.identity }
}
