//! A UDP socket that carries many datagrams a system call. The only place that sends a datagram or receives one. Steps 10 and 11
//! of the walk.
//!
//! On IPv4 the kernel cuts one buffer into datagrams and joins those that come (GSO, GRO, by way of `quinn-udp`); on IPv6 a full
//! datagram is longer than an Ethernet frame, and what is cut into fragments goes one by one. It must not know what is in a
//! datagram.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lavatube_base::limits::DATAGRAM_LEN_MAX;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};

use crate::port::timespec;

/// A socket and its buffers.
pub(crate) struct Wire {
    socket: UdpSocket,
    /// How to send and receive many at once, where that works.
    many: Option<UdpSocketState>,
    buffers: Vec<Vec<u8>>,
}

impl Wire {
    /// A socket at `listen`.
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        // As much as the system allows: while a disk is slow, what comes in waits there.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER_LEN);
        let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER_LEN);
        let many = match listen {
            SocketAddr::V4(_) => UdpSocketState::new((&socket).into()).ok(),
            SocketAddr::V6(_) => None,
        };
        if many.is_some() {
            // The library forbids fragments for ever; the way may be narrower than 1500 bytes, and then they must be allowed.
            let _ = sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT);
        }
        let count = if many.is_some() { BUFFERS } else { 1 };
        Ok(Self { socket, many, buffers: vec![vec![0; GRO_LEN]; count] })
    }

    /// To wait for.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Datagrams that are worth sending at a time.
    pub fn batch(&self) -> usize {
        let segments = self.many.as_ref().map_or(1, UdpSocketState::max_gso_segments);
        segments.clamp(BATCH_MIN, GSO_LEN / DATAGRAM_LEN_MAX)
    }

    /// Sends datagrams that end at `ends`. One that the network does not take is lost like any other, and the engine finds out.
    pub fn send(&self, to: SocketAddr, bytes: &[u8], ends: &[usize]) {
        let (mut start, mut rest) = (0, ends);
        while let Some(first) = rest.first() {
            // Of one length, but the last may be shorter.
            let len = first - start;
            let most = self.many.as_ref().map_or(1, UdpSocketState::max_gso_segments);
            let alike = |i: usize| rest[i] - rest[i - 1] == len;
            let mut count = 1 + (1..rest.len().min(most)).take_while(|i| alike(*i)).count();
            if count < rest.len().min(most) && rest[count] - rest[count - 1] < len {
                count += 1;
            }
            let end = rest[count - 1];
            if count == 1 || !self.send_many(to, &bytes[start..end], len) {
                bytes[start..end].chunks(len).for_each(|datagram| self.patiently(|| self.socket.send_to(datagram, to)));
            }
            (start, rest) = (end, &rest[count..]);
        }
    }

    /// Sends datagrams of `len` bytes at once, unless the system does not like that.
    fn send_many(&self, to: SocketAddr, contents: &[u8], len: usize) -> bool {
        let Some(many) = &self.many else { return false };
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size: Some(len), src_ip: None };
        let mut sent = true;
        self.patiently(|| {
            let result = many.try_send((&self.socket).into(), &transmit);
            sent = result.as_ref().is_ok_and(|()| true) || result.as_ref().is_err_and(is_full);
            result
        });
        sent
    }

    /// Once more, when the system's buffer is full, after it has had a moment.
    fn patiently<T>(&self, mut send: impl FnMut() -> io::Result<T>) {
        if send().is_err_and(|e| is_full(&e)) {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            let _ = poll(&mut fds, Some(&timespec(PATIENCE)));
            let _ = send();
        }
    }

    /// Shows some of what came, by where it came from; whether that was all.
    pub fn receive(&mut self, mut show: impl FnMut(SocketAddr, &[&[u8]])) -> bool {
        let Some(many) = &self.many else {
            // What the network says of earlier datagrams is no matter: they are lost.
            let one = self.socket.recv_from(&mut self.buffers[0]);
            if let Ok((len, from)) = one {
                show(from, &[&self.buffers[0][..len]]);
            }
            return one.is_err_and(|e| is_full(&e));
        };
        let mut metas = [RecvMeta::default(); BUFFERS];
        let received = {
            let mut slices = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
            let mut slices: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            many.recv((&self.socket).into(), &mut slices, &mut metas)
        };
        let count = match received {
            Ok(count) => count,
            Err(e) => return is_full(&e),
        };
        for (buffer, meta) in self.buffers.iter().zip(&metas[..count]) {
            let datagrams: Vec<&[u8]> = buffer[..meta.len].chunks(meta.stride.max(1)).collect();
            show(meta.addr, &datagrams);
        }
        count < BUFFERS
    }
}

fn is_full(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock
}

/// What the socket's own buffers should hold.
const BUFFER_LEN: usize = 8 << 20;
/// Buffers filled at a time, each as long as what the kernel may join, or the longest datagram (other engines of LTP send long ones).
const BUFFERS: usize = 8;
const GRO_LEN: usize = 64 << 10;
/// What the kernel may cut at a time.
const GSO_LEN: usize = 65_507;
/// Where it cannot: still better hashed together.
const BATCH_MIN: usize = 16;
const PATIENCE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Datagrams of all lengths, at once and one by one, arrive as they were.
    #[test]
    fn what_is_sent_together_arrives_apart() {
        for host in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(host, 0);
            // A machine without IPv6 has nothing to show.
            let (Ok(near), Ok(mut far)) = (Wire::bind(address), Wire::bind(address)) else { continue };
            let lens = [1472, 1472, 1472, 90, 1472, 1471, 1471, 1, 7, 7, 9, 1472, 1472];
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for (n, len) in (0..).zip(lens) {
                bytes.resize(bytes.len() + len, n);
                ends.push(bytes.len());
            }
            near.send(far.address().unwrap(), &bytes, &ends);
            let (mut came, mut tries) = (Vec::new(), 0);
            while came.len() < lens.len() && tries < 1000 {
                far.receive(|from, datagrams| {
                    assert_eq!(from, near.address().unwrap());
                    came.extend(datagrams.iter().map(|datagram| (datagram[0], datagram.len())));
                });
                let mut fds = [PollFd::new(far.socket(), PollFlags::IN)];
                let _ = poll(&mut fds, Some(&timespec(Duration::from_millis(5))));
                tries += 1;
            }
            assert_eq!(came, (0..).zip(lens).collect::<Vec<_>>());
        }
    }
}
