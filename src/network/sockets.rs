//! The TCP sockets of a network namespace: through netlink, or from /proc/PID/net/tcp where the kernel would have to load a
//! module for it.

use std::fs::File;
use std::io::{BufRead, BufReader};

use super::{Namespaces, dump, is_gone};
use crate::error::{Context, Result};
use crate::host::Host;
use crate::limits;
use crate::netlink::socket_diag::{self, Family, state};
use crate::procfs::net_tcp;

pub use crate::netlink::socket_diag::Socket;

impl Namespaces {
    /// The TCP sockets in the namespace `inode` in one of the states of the mask `states` ([`state`]), IPv4 ones first, at most
    /// [`limits::NAMESPACE_ENTRIES`]; none when it is not known or its process is gone.
    ///
    /// From /proc, where tcp_diag is not loaded, they come without cookie, cgroup and `is_v6_only`.
    ///
    /// # Errors
    /// `NoPermission` without CAP_SYS_ADMIN (CAP_SYS_PTRACE from /proc); those of sockets and files.
    pub fn list_sockets(&mut self, host: &Host, inode: u64, states: u32) -> Result<Vec<Socket>> {
        self.uses += 1;
        let used = self.uses;
        if let Some(known) = self.known.get_mut(&inode) {
            known.used = used;
        }
        if !self.built_in.has_tcp_diag(host) {
            return self.sockets_from_files(host, inode, states);
        }
        let mut found = Vec::new();
        let Some(socket) = self.socket(host, inode, libc::NETLINK_SOCK_DIAG)? else { return Ok(found) };
        let mut request = Vec::new();
        for family in Family::ALL {
            let sequence = self.next_sequence();
            socket_diag::request_tcp(&mut request, sequence, family, states);
            dump(&socket, sequence, &request, |message| {
                if found.len() < limits::NAMESPACE_ENTRIES {
                    found.extend(socket_diag::parse(message));
                }
            })
            .context("SOCK_DIAG_BY_FAMILY")?;
        }
        Ok(found)
    }

    /// The same from /proc/PID/net/tcp and tcp6.
    fn sockets_from_files(&mut self, host: &Host, inode: u64, states: u32) -> Result<Vec<Socket>> {
        let mut found = Vec::new();
        // Held, so that the files are of this namespace: a process that has taken the number is in another one, most likely.
        let Some(_namespace) = self.enter(host, inode)? else { return Ok(found) };
        let Some(process) = self.process(host, inode) else { return Ok(found) };
        for (family, name) in [(Family::V4, "net/tcp"), (Family::V6, "net/tcp6")] {
            let file = match File::open(process.join(name)) {
                Ok(file) => file,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error).context("/proc/PID/net/tcp"),
            };
            let mut lines = BufReader::with_capacity(64 * 1024, file);
            let mut line = Vec::new();
            while found.len() < limits::NAMESPACE_ENTRIES {
                line.clear();
                match lines.read_until(b'\n', &mut line) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if is_gone(&error) => break,
                    Err(error) => return Err(error).context("/proc/PID/net/tcp"),
                }
                let socket = net_tcp::parse(&line);
                found.extend(socket.filter(|socket| states & state::mask(socket.state) != 0).map(|socket| {
                    Socket {
                        state: socket.state,
                        family,
                        local: socket.local,
                        remote: socket.remote,
                        inode: u32::try_from(socket.inode).unwrap_or(0),
                        cookie: None,
                        cgroup_id: None,
                        is_v6_only: None,
                    }
                }));
            }
        }
        Ok(found)
    }
}
