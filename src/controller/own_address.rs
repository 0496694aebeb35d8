//! Where others find this node, if its configuration does not say.

use std::net::{SocketAddr, UdpSocket};

/// What others can dial for a listening address. For an unspecified one it is the address of the interface that the default
/// route takes: a datagram socket is joined to an address kept for documentation (RFC 5737, RFC 3849), which sends nothing
/// and makes the system choose.
pub(super) fn advertised(listening: SocketAddr) -> Option<SocketAddr> {
    if !listening.ip().is_unspecified() {
        return Some(listening);
    }
    let (any, far) = match listening {
        SocketAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        SocketAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, listening.port()))
}
