//! What a node's limits may take of descriptors, held against what the system allows its process.
//!
//! | what | descriptors |
//! | --- | --- |
//! | the node itself: outputs and log, signals, lock, two polls and their wakers, a spare, the admin socket | 15 |
//! | each listening address | 1 |
//! | `max_incoming`, and twice `max_pending`: those who were told to go have not all gone yet; one that is turned away | 1 each |
//! | `max_outgoing`, and as many that only look whether somebody lives | 1 each |
//! | `max_admin_clients`, and one that is turned away | 1 each |
//! | a file that is written or read, a name that is looked up | 4 in all |
//! | each program that answers a request, while it starts | 9 |

use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// See the module.
const OWN: usize = 15;
const FILES: usize = 4;
const PROGRAM: usize = 9;

/// The most descriptors that a node may want at a time.
pub fn wanted(config: &Config) -> usize {
    let limits = &config.limits;
    let incoming = limits.max_incoming + 2 * limits.max_pending + 1;
    let programs = config.services.values().filter(|service| !service.command.is_empty()).count();
    let at_work = if programs == 0 { 0 } else { limits.workers * PROGRAM };
    OWN + config.listen.addresses.len()
        + incoming
        + 2 * limits.max_outgoing
        + limits.max_admin_clients
        + 1
        + FILES
        + at_work
}

/// What to say if that is more than the system allows. The node goes on: at the bound it turns strangers away, dials nobody and
/// keeps what it would have written, each with a reason; but whoever comes to ask it may find no place either.
pub fn lack(config: &Config) -> Option<String> {
    let allowed = usize::try_from(getrlimit(Resource::Nofile).current?).unwrap_or(usize::MAX);
    let wanted = wanted(config);
    (wanted > allowed).then(|| {
        format!(
            "the limits allow for {wanted} open files at a time, and the system for {allowed}: raise its limit, or lower \
             limits.max_incoming, limits.max_pending and limits.max_outgoing (config/constrained.toml is made for 64)"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, Service};

    /// It says so itself.
    #[test]
    fn the_file_for_small_machines_wants_no_more_than_64_descriptors() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/constrained.toml");
        let mut config = Config::load(Some(&path), &Overrides::default()).unwrap().config;
        assert_eq!(wanted(&config), 55);
        let service = Service { command: vec!["uptime".to_owned()], ..Service::default() };
        config.services.insert("uptime".parse().unwrap(), service);
        assert_eq!(wanted(&config), 64);
    }
}
