//! A metadata service of a cloud in a network namespace, as well or as badly behaved as a test wants it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::netns::Netns;

/// A request: its first words and its headers.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Such as `GET /latest/meta-data/`.
    pub what: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// With a status and a body.
    Say(u16, String),
    /// With these bytes.
    Bytes(Vec<u8>),
    /// With a body that comes a byte at a time, ten in a second.
    Drip,
    /// With another place.
    Elsewhere,
    /// Not at all.
    Silence,
}

type Behaviour = Box<dyn Fn(&Asked) -> Reply + Send>;

/// The service. It ends with the test's process.
pub struct Imds {
    asked: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Imds {
    /// Listens at `address`, which becomes one of the namespace's own.
    #[track_caller]
    pub fn start(netns: &Netns, address: Ipv4Addr) -> Imds {
        netns.ip(&format!("addr add {address}/32 dev lo"));
        let listener = thread::scope(|scope| {
            let bind = scope.spawn(|| {
                netns.enter_thread();
                TcpListener::bind((address, 80))
            });
            bind.join().expect("no panic").expect("a listener")
        });
        let asked = Arc::new(Mutex::new(Vec::new()));
        let silence: Behaviour = Box::new(|_| Reply::Silence);
        let behaviour = Arc::new(Mutex::new(silence));
        let imds = Imds { asked: Arc::clone(&asked), behaviour: Arc::clone(&behaviour) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, behaviour) = (Arc::clone(&asked), Arc::clone(&behaviour));
                thread::spawn(move || serve(stream, &asked, &behaviour));
            }
        });
        imds
    }

    /// From now on requests are answered so.
    pub fn behave(&self, behaviour: impl Fn(&Asked) -> Reply + Send + 'static) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(behaviour);
    }

    /// What was asked since this was asked last.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request, then the end; the client may be gone at any time.
fn serve(stream: TcpStream, asked: &Mutex<Vec<Asked>>, behaviour: &Mutex<Behaviour>) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    let request = Asked { what: first.trim_end_matches(" HTTP/1.1").to_owned(), headers: headers.collect() };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let reply = behaviour.lock().unwrap_or_else(PoisonError::into_inner)(&request);
    let mut stream = &stream;
    let mut say = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match reply {
        Reply::Say(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = say(head.as_bytes()) && say(body.as_bytes());
        }
        Reply::Bytes(bytes) => {
            let _ = say(&bytes);
        }
        Reply::Elsewhere => {
            let place = "http://169.254.169.254/elsewhere";
            let _ =
                say(format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
                    .as_bytes());
        }
        Reply::Drip => {
            let mut goes_on = say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            while goes_on {
                goes_on = say(b"x");
                thread::sleep(Duration::from_millis(100));
            }
        }
        // Longer than anybody waits.
        Reply::Silence => thread::sleep(Duration::from_secs(30)),
    }
}
