//! A socket, with or without TLS, that one thread reads while another writes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::Connection;

/// What is read from the socket at once, under TLS.
const PIECE: usize = 64 << 10;

pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

struct Tls {
    /// Held for encrypting and decrypting only, never while the socket is waited for.
    connection: Mutex<Connection>,
    /// What came and is not decrypted yet, and where it begins. The reader's.
    came: Mutex<(Vec<u8>, usize)>,
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that gives up at a time.
struct Until<'a>(&'a TcpStream, Instant);

impl Until<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.1.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(Some(self.left()?))?;
        self.0.read(into)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(Some(self.left()?))?;
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire {
    /// Sets a connection up, with TLS's own greetings where that is wanted.
    pub(super) fn open(socket: TcpStream, tls: Option<Connection>, deadline: Instant) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let Some(mut connection) = tls else { return Ok(Wire { socket, tls: None }) };
        while connection.is_handshaking() {
            connection.complete_io(&mut Until(&socket, deadline))?;
        }
        connection.set_buffer_limit(None);
        let tls = Tls { connection: Mutex::new(connection), came: Mutex::default() };
        Ok(Wire { socket, tls: Some(Box::new(tls)) })
    }

    /// Reads exactly so many bytes, until then.
    pub(super) fn read_until(&self, into: &mut [u8], deadline: Instant) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            self.socket.set_read_timeout(Some(Until(&self.socket, deadline).left()?))?;
            match self.read(&mut into[filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How long [`Wire::read`] waits before it says that it would block.
    pub(super) fn patience(&self, read: Duration, write: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(Some(read))?;
        self.socket.set_write_timeout(write)
    }

    /// Reads what there is; 0 at the end. One thread at a time.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.socket).read(into) };
        let came = &mut *held(&tls.came);
        loop {
            {
                let mut connection = held(&tls.connection);
                match connection.reader().read(into) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
                let mut rest = &came.0[came.1..];
                if !rest.is_empty() {
                    connection.read_tls(&mut rest)?;
                    came.1 = came.0.len() - rest.len();
                    connection
                        .process_new_packets()
                        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                    continue;
                }
            }
            came.0.resize(PIECE, 0);
            came.1 = PIECE;
            let count = (&self.socket).read(&mut came.0)?;
            came.0.truncate(count);
            came.1 = 0;
            if count == 0 {
                return Ok(0);
            }
        }
    }

    /// Writes all of it. One thread at a time.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return (&self.socket).write_all(bytes) };
        let mut encrypted = Vec::with_capacity(bytes.len() + 1_024);
        {
            let mut connection = held(&tls.connection);
            connection.writer().write_all(bytes)?;
            while connection.wants_write() {
                connection.write_tls(&mut encrypted)?;
            }
        }
        (&self.socket).write_all(&encrypted)
    }

    /// Ends it in both directions, also for those who wait for it.
    pub(super) fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
