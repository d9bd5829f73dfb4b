//! Hears of changes to a table by others, from the kernel's own notifications (`NFNLGRP_NFTABLES`), so that a flushed
//! ruleset is mended at once and not at the next look.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::{Error, Result};

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h, as the bit that `bind` takes.
const GROUP: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u8 = 10;
/// `NFT_MSG_NEWGEN`: the end of a transaction; it names no table.
const NEW_GENERATION: u8 = 15;
/// netlink and nfgenmsg headers before the first attribute.
const HEADER_LEN: usize = 16 + 4;

/// A subscription to the changes of one table.
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
    table: String,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes in the calling thread's network namespace. Needs CAP_NET_ADMIN and a tokio runtime.
    pub fn new(table: &str) -> Result<Self> {
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
            // Our own large transactions come back to us: room for them, and an overflow is only a reason to look.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &(1 << 20));
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
            Ok(socket)
        };
        let socket = open().map_err(io::Error::from).map_err(Error::io("subscribing to nftables changes"))?;
        // SAFETY: an `OwnedFd` is open and the same descriptor until it is dropped, and nothing takes it out of `self`.
        let socket = unsafe { AsyncFd::register(socket) }
            .map_err(io::Error::from)
            .map_err(Error::io("subscribing to nftables changes"))?;
        Ok(Self { socket, table: table.to_owned(), buffer: vec![0; 1 << 16] })
    }

    /// Waits until the table was touched. Cancel safe: a message is lost only together with the wait that read it.
    pub async fn touched(&mut self) -> Result<()> {
        loop {
            let mut guard = self.socket.readable().await.map_err(Error::io("waiting for nftables changes"))?;
            match recv(guard.get_inner().as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(len) => {
                    if mentions(&self.buffer[..len], &self.table) {
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                // Messages were lost: one of them may have been about our table.
                Err(Errno::ENOBUFS) => return Ok(()),
                Err(errno) => return Err(Error::io("reading nftables changes")(errno.into())),
            }
        }
    }

    /// Forgets what has arrived so far: called after a transaction of our own, whose notifications the kernel delivers
    /// before `nft` returns.
    pub fn forget(&mut self) {
        while !matches!(
            recv(self.socket.get_ref().as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT),
            Err(errno) if !matches!(errno, Errno::EINTR | Errno::ENOBUFS)
        ) {}
    }
}

/// Whether any message of a datagram is about `table`: the first attribute of every nftables object is its table's
/// name (linux/netfilter/nf_tables.h).
fn mentions(mut datagram: &[u8], table: &str) -> bool {
    while datagram.len() >= HEADER_LEN {
        let len = u32::from_ne_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]) as usize;
        if len < HEADER_LEN || len > datagram.len() {
            return false;
        }
        let (kind, subsystem) = (datagram[4], datagram[5]);
        let (low, high) = if cfg!(target_endian = "little") { (kind, subsystem) } else { (subsystem, kind) };
        if high == SUBSYSTEM
            && low != NEW_GENERATION
            && first_attribute(&datagram[HEADER_LEN..len]) == Some(table.as_bytes())
        {
            return true;
        }
        datagram = &datagram[((len + 3) & !3).min(datagram.len())..];
    }
    false
}

fn first_attribute(attributes: &[u8]) -> Option<&[u8]> {
    let (len, kind) = (
        u16::from_ne_bytes([*attributes.first()?, *attributes.get(1)?]) as usize,
        u16::from_ne_bytes([*attributes.get(2)?, *attributes.get(3)?]),
    );
    let value = attributes.get(4..len)?;
    (kind & 0x3fff == 1).then(|| value.strip_suffix(&[0]).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, table: &str) -> Vec<u8> {
        let mut attribute = Vec::new();
        attribute.extend_from_slice(&u16::try_from(4 + table.len() + 1).unwrap().to_ne_bytes());
        attribute.extend_from_slice(&1u16.to_ne_bytes());
        attribute.extend_from_slice(table.as_bytes());
        attribute.push(0);
        let mut message = Vec::new();
        message.extend_from_slice(&u32::try_from(HEADER_LEN + attribute.len()).unwrap().to_ne_bytes());
        message.extend_from_slice(&(u16::from(SUBSYSTEM) << 8 | u16::from(kind)).to_ne_bytes());
        message.extend_from_slice(&[0; 10 + 4]);
        message.extend_from_slice(&attribute);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn only_the_named_table_is_heard() {
        assert!(mentions(&message(3, "pintle"), "pintle"));
        assert!(!mentions(&message(3, "pintle-b"), "pintle"));
        assert!(!mentions(&message(NEW_GENERATION, "pintle"), "pintle"));
        assert!(mentions(&[message(3, "other"), message(1, "pintle")].concat(), "pintle"));
        assert!(!mentions(&message(3, "pintle")[..18], "pintle"));
    }
}
