//! Cases about handshake.
