//! Where others find this node, if its configuration does not say.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What others can dial for a listening address. For an unspecified one it is the address of the interface that the default
/// route takes: a datagram socket is joined to an address kept for documentation (RFC 5737, RFC 3849), which sends nothing
/// and makes the system choose.
pub(super) fn advertised(listening: SocketAddr) -> Option<SocketAddr> {
    if !listening.ip().is_unspecified() {
        return Some(listening);
    }
    // No texts: what takes one as an address brings the system's resolver into a static binary (`host_names`).
    let (any, far) = match listening {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, listening.port()))
}
