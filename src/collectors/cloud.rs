//! The cloud this node is an instance in, as its metadata service tells it, and whether it will be taken away.
//!
//! Only where the firmware names a cloud is anything sent, to that cloud's own address, from the host's network namespace. What
//! is learned goes to `world.cloud`: `node_info` exports it, and series of containers have their `az` and `region` from there.

use std::net::SocketAddrV4;
use std::os::fd::RawFd;

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::cloud::exchange::{Exchange, Failure, deadline_ns};
use crate::cloud::inquiry::{Inquiry, Next, get};
use crate::cloud::message::Answer;
use crate::cloud::{Cloud, Field, Metadata, detect};
use crate::error::{Error, Reason, Result};
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::socket;
use crate::world::World;
use crate::{debug, limits};

static NOTICE: Desc = Desc::state(
    "node_cloud_interruption_notice",
    "1 when the cloud has said that it will take this instance away, else 0; of spot and preemptible instances of AWS, GCP and Azure.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "cloud",
    about: "Metadata of the cloud instance, for labels, and notices of its end",
    default: Enable::Auto,
    refresh: When::Never,
    needs: &[],
    metrics: &[&NOTICE],
    open,
};

fn open(world: &mut World) -> Result<Opened> {
    let Some(cloud) = detect(&world.host) else {
        return Ok(Opened::Ready(Box::new(Elsewhere)));
    };
    world.set_cloud(Metadata::of(cloud.provider));
    if !world.host.is_live() {
        return Ok(Opened::Absent(
            Reason::NotLive,
            format!("this is no running instance of {}", cloud.provider),
        ));
    }
    Ok(Opened::Ready(Box::new(Instance::of(cloud))))
}

/// Not in a cloud: there is nobody to ask.
struct Elsewhere;

impl Collector for Elsewhere {
    fn collect(&self, _world: &World, _out: &mut Registry) {}
}

/// What is being asked.
enum Question {
    Inquiry(Box<Inquiry>),
    Notice,
}

/// In a cloud.
struct Instance {
    cloud: &'static Cloud,
    /// What is known, without what flags say.
    known: Metadata,
    /// The token of the last inquiry.
    token: Option<String>,
    job: Option<(Question, Exchange)>,
    /// When to inquire again.
    inquire_ns: MonotonicNs,
    /// When an inquiry began last.
    inquired_ns: MonotonicNs,
    /// Inquiries that have ended.
    inquiries: u64,
    /// How many of them in a row, up to the last one, had a problem.
    failures: u32,
    problem: Option<String>,
    /// Whether the end of an inquiry is not in the collector's status yet, which is that of its last refresh.
    is_news: bool,
    /// When to look for a notice again; `None` where there are none.
    look_ns: Option<MonotonicNs>,
    /// Whether there was a notice, and when that was heard.
    notice: Option<(bool, MonotonicNs)>,
}

impl Instance {
    /// One of which nothing is known.
    fn of(cloud: &'static Cloud) -> Instance {
        Instance {
            cloud,
            known: Metadata::of(cloud.provider),
            token: None,
            job: None,
            inquire_ns: clock::monotonic_ns(),
            inquired_ns: 0,
            inquiries: 0,
            failures: 0,
            problem: None,
            is_news: false,
            look_ns: None,
            notice: None,
        }
    }

    /// Makes a connection for a request. It is made in the host's network namespace where that can be entered: answers of some
    /// services do not get past the first hop.
    fn dial(
        &self,
        world: &mut World,
        request: Vec<u8>,
        deadline_ns: MonotonicNs,
    ) -> std::result::Result<Exchange, Failure> {
        let address = SocketAddrV4::new(self.cloud.address, 80);
        let World { host, namespaces, .. } = world;
        let in_host = namespaces.as_mut().and_then(|namespaces| {
            let connected = namespaces.in_host(host, || socket::begin_connect(address));
            connected.inspect_err(|error| debug!("the host's network namespace: {error}")).ok()
        });
        let stream = in_host.unwrap_or_else(|| socket::begin_connect(address));
        stream.map(|stream| Exchange::new(stream, request, deadline_ns)).map_err(Failure::Unreachable)
    }

    /// Asks for the metadata.
    fn inquire(&mut self, world: &mut World) -> Result<()> {
        let now_ns = world.now_ns;
        let whole_ns = now_ns + limits::CLOUD_INQUIRY_TIME.as_nanos() as u64;
        self.inquired_ns = now_ns;
        let (inquiry, request) = Inquiry::begin(self.cloud, whole_ns);
        self.ask(world, inquiry, request)
    }

    /// Sends what an inquiry wants to know next.
    fn ask(&mut self, world: &mut World, mut inquiry: Inquiry, mut request: Vec<u8>) -> Result<()> {
        loop {
            let until_ns = deadline_ns(clock::monotonic_ns(), inquiry.deadline_ns);
            let failure = match self.dial(world, request, until_ns) {
                Ok(exchange) => {
                    self.job = Some((Question::Inquiry(Box::new(inquiry)), exchange));
                    return Ok(());
                }
                Err(failure) => failure,
            };
            match inquiry.answered(Err(failure)) {
                Next::Ask(next) => request = next,
                Next::Done => return self.conclude(world, inquiry),
            }
        }
    }

    /// Looks for a notice.
    fn look(&mut self, world: &mut World) -> Result<()> {
        let Some(notice) = &self.cloud.notice else { return Ok(()) };
        let now_ns = world.now_ns;
        self.look_ns = Some(now_ns + notice.interval.as_nanos() as u64);
        let request = get(self.cloud, notice.path, self.token.as_deref());
        match self.dial(world, request, deadline_ns(now_ns, MonotonicNs::MAX)) {
            Ok(exchange) => {
                self.job = Some((Question::Notice, exchange));
                Ok(())
            }
            Err(failure) => self.take_notice(world, Err(failure)),
        }
    }

    /// Takes the end of what is under way.
    fn ended(&mut self, world: &mut World, answer: std::result::Result<Answer, Failure>) -> Result<()> {
        match self.job.take() {
            Some((Question::Inquiry(mut inquiry), _)) => match inquiry.answered(answer) {
                Next::Ask(request) if clock::monotonic_ns() < inquiry.deadline_ns => {
                    self.ask(world, *inquiry, request)
                }
                Next::Ask(_) => {
                    inquiry.problem.get_or_insert_with(|| "not all was said in time".to_owned());
                    self.conclude(world, *inquiry)
                }
                Next::Done => self.conclude(world, *inquiry),
            },
            Some((Question::Notice, _)) => self.take_notice(world, answer),
            None => Ok(()),
        }
    }

    /// Takes what an inquiry has found, and decides when the next one is.
    fn conclude(&mut self, world: &mut World, inquiry: Inquiry) -> Result<()> {
        self.inquiries += 1;
        let pause = match inquiry.problem {
            None => {
                self.failures = 0;
                self.known = inquiry.found;
                limits::CLOUD_AGE
            }
            Some(_) => {
                self.failures = self.failures.saturating_add(1);
                self.known.take_newer(inquiry.found);
                let doubled = limits::CLOUD_PAUSE * 2u32.saturating_pow((self.failures - 1).min(16));
                doubled.min(limits::CLOUD_PAUSE_MAX)
            }
        };
        self.token = inquiry.token.or(self.token.take());
        self.problem = inquiry.problem;
        self.is_news = true;
        let now_ns = clock::monotonic_ns();
        self.inquire_ns = now_ns + pause.as_nanos() as u64;
        let ends_by_notice = self
            .cloud
            .notice
            .as_ref()
            .is_some_and(|notice| notice.life_cycle == self.known.get(Field::LifeCycle));
        self.look_ns = ends_by_notice.then(|| self.look_ns.unwrap_or(now_ns));
        world.set_cloud(self.known.clone());
        self.state()
    }

    fn take_notice(&mut self, world: &World, answer: std::result::Result<Answer, Failure>) -> Result<()> {
        let Some(notice) = &self.cloud.notice else { return Ok(()) };
        let heard = match answer {
            Ok(Answer { status: 200, body }) => {
                (notice.parse)(&body, &self.known).ok_or("no sense in it".to_owned())
            }
            Ok(Answer { status: 404, .. }) => Ok(false),
            Ok(Answer { status, .. }) => {
                // The token may be of before a restart of the service.
                if status == 401 {
                    let soon_ns = self.inquired_ns + limits::CLOUD_NOTICE_AGE.as_nanos() as u64;
                    self.inquire_ns = self.inquire_ns.min(soon_ns);
                }
                Err(format!("status {status}"))
            }
            Err(failure) => Err(failure.to_string()),
        };
        match heard {
            Ok(is_noticed) => self.notice = Some((is_noticed, world.now_ns)),
            Err(what) => debug!("{} {}: {what}", self.cloud.address, notice.path),
        }
        Ok(())
    }

    /// Whether there is a notice; nothing rather than what was true a while ago.
    fn is_noticed(&self, world: &World) -> Option<bool> {
        let (is_noticed, heard_ns) = self.notice?;
        let age_ns = world.now_ns.saturating_sub(heard_ns);
        (age_ns <= limits::CLOUD_NOTICE_AGE.as_nanos() as u64).then_some(is_noticed)
    }

    /// The problem of the last inquiry, if it had one: it stands until one has none.
    fn state(&self) -> Result<()> {
        match &self.problem {
            Some(problem) => {
                Err(Error::new(Reason::Failed, format!("metadata of {}: {problem}", self.cloud.provider)))
            }
            None => Ok(()),
        }
    }
}

impl Collector for Instance {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        if let Some((_, exchange)) = self.job.as_ref().filter(|(_, exchange)| !exchange.is_sending()) {
            wait(exchange.fd());
        }
    }

    fn fds_to_write(&self, wait: &mut dyn FnMut(RawFd)) {
        if let Some((_, exchange)) = self.job.as_ref().filter(|(_, exchange)| exchange.is_sending()) {
            wait(exchange.fd());
        }
    }

    fn ready(&mut self, world: &mut World, _fd: RawFd) -> Result<()> {
        let Some((_, exchange)) = &mut self.job else { return Ok(()) };
        match exchange.turn() {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => self.ended(world, Ok(answer)),
            Err(failure) => self.ended(world, Err(failure)),
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.is_news = false;
        if let Some((_, exchange)) = &self.job {
            if exchange.deadline_ns() <= world.now_ns {
                let late = exchange.late();
                self.ended(world, Err(late))?;
            }
        } else if self.inquire_ns <= world.now_ns {
            self.inquire(world)?;
        } else if self.look_ns.is_some_and(|at| at <= world.now_ns) {
            self.look(world)?;
        }
        self.state()
    }

    fn deadline_ns(&self) -> Option<u64> {
        match &self.job {
            _ if self.is_news => Some(0),
            Some((_, exchange)) => Some(exchange.deadline_ns()),
            None => Some(self.look_ns.unwrap_or(u64::MAX).min(self.inquire_ns)),
        }
    }

    fn is_busy(&self) -> bool {
        self.inquiries == 0 || self.job.is_some()
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        if let Some(is_noticed) = self.is_noticed(world) {
            out.add(&NOTICE, &[], f64::from(u8::from(is_noticed)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Config;
    use crate::cloud::CLOUDS;

    fn world() -> World {
        World::new(Config { root: "/nonexistent".into(), ..Config::default() }, 1024)
    }

    /// How long the pause is after an inquiry that ended so, in seconds.
    fn pause_s(instance: &mut Instance, world: &mut World, problem: Option<&str>) -> u64 {
        let (mut inquiry, _) = Inquiry::begin(instance.cloud, 0);
        inquiry.problem = problem.map(str::to_owned);
        inquiry.found.set(Field::LifeCycle, "spot");
        let before_ns = clock::monotonic_ns();
        assert_eq!(instance.conclude(world, inquiry).is_ok(), problem.is_none());
        // The status of the collector is made at once.
        assert_eq!(instance.deadline_ns(), Some(0));
        (instance.inquire_ns - before_ns) / 1_000_000_000
    }

    #[test]
    fn failures_are_tried_again_less_and_less_often_and_answers_renewed_hourly() {
        let mut world = world();
        let aws = CLOUDS.iter().copied().find(|cloud| cloud.provider == "AWS").unwrap();
        let mut instance = Instance::of(aws);
        assert!(instance.is_busy());
        let pauses: Vec<u64> = (0..10).map(|_| pause_s(&mut instance, &mut world, Some("x"))).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!instance.is_busy());
        assert_eq!(pause_s(&mut instance, &mut world, None), 3600);
        assert_eq!(pause_s(&mut instance, &mut world, Some("x")), 2);
        // What was known before stays.
        assert_eq!(world.cloud.get(Field::LifeCycle), "spot");
        assert!(instance.look_ns.is_some());
    }

    #[test]
    fn notices_are_forgotten_and_a_token_that_is_refused_renewed() {
        let mut world = world();
        let gcp = CLOUDS.iter().copied().find(|cloud| cloud.provider == "GCP").unwrap();
        let mut instance = Instance::of(gcp);
        pause_s(&mut instance, &mut world, None);
        let say = |status, body: &str| Ok(Answer { status, body: body.as_bytes().to_vec() });
        for (answer, expected) in [
            (say(500, ""), None),
            (say(200, "FALSE"), Some(false)),
            (say(200, "TRUE"), Some(true)),
            (say(200, "<html>"), Some(true)),
            (Err(Failure::Senseless("no HTTP")), Some(true)),
            (say(404, ""), Some(false)),
        ] {
            instance.take_notice(&world, answer).unwrap();
            assert_eq!(instance.notice.map(|(is_noticed, _)| is_noticed), expected);
        }
        assert!(instance.is_noticed(&world).is_some());
        world.now_ns += limits::CLOUD_NOTICE_AGE.as_nanos() as u64 + 1;
        assert!(instance.is_noticed(&world).is_none());
        assert!(instance.inquire_ns > world.now_ns + 3_000_000_000_000);
        instance.take_notice(&world, say(401, "")).unwrap();
        assert!(instance.inquire_ns <= world.now_ns);
    }
}
