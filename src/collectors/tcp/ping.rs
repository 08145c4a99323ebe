//! `--ping-upstreams`: round trips to the addresses that containers connect to, by ICMP echo from the containers' own network
//! namespaces.
//!
//! In sweeps: who connects where is taken from the counts, each container's namespace is looked up, and the echoes are spread
//! over the interval, one namespace after the other, so that few sockets are open at once: an open socket keeps a dead
//! container's namespace alive. All of it happens in ticks of the loop, a slice of bounded work each.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::echo::Echo;
use super::total::{Target, Total, measured_address};
use crate::containers::{Containers, IdentityId, InstanceId, mounts};
use crate::limits::{self, Limit};
use crate::sys::capabilities::{self, Capability};
use crate::sys::clock::{self, MonotonicNs, WallNs};
use crate::sys::icmp::{EchoSocket, Version};
use crate::warning;
use crate::world::World;

/// An address from somewhere: the inode number of the network namespace comes first, so that those of one are neighbours.
type Way = (u64, IpAddr);

const SLICE_NS: u64 = limits::PING_SLICE.as_nanos() as u64;
const TIME_NS: u64 = limits::PING_TIME.as_nanos() as u64;
const AGE_NS: u64 = limits::PING_AGE.as_nanos() as u64;

/// A network namespace with open sockets.
#[derive(Debug)]
struct Source {
    inode: u64,
    v4: Option<EchoSocket>,
    v6: Option<EchoSocket>,
}

impl Source {
    fn sockets(&self) -> impl Iterator<Item = (Version, &EchoSocket)> {
        let v4 = self.v4.iter().map(|socket| (Version::V4, socket));
        v4.chain(self.v6.iter().map(|socket| (Version::V6, socket)))
    }
}

/// An echo that was not answered yet.
#[derive(Debug)]
struct Flying {
    way: Way,
    sequence: u16,
    sent_ns: MonotonicNs,
    sent_wall_ns: WallNs,
    /// Whom the answer is for.
    identities: Vec<IdentityId>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    rtt_ns: u64,
    answered_ns: MonotonicNs,
}

/// What came of echoes, for `nodeprobe_pings_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Results {
    /// Answered in time.
    pub answered: u64,
    /// Not answered in time.
    pub unanswered: u64,
    /// Not even sent: no route, a filter, no rights.
    pub failed: u64,
}

/// Sends echoes and keeps the answers.
#[derive(Debug)]
pub struct Pinger {
    /// False without CAP_NET_RAW.
    is_able: bool,
    /// From the start of a sweep to that of the next, at least.
    spacing_ns: u64,
    /// The identifier of all echoes; the sequence number and count of those sent.
    id: u16,
    sent: u64,
    random: RandomState,
    /// When the sweep began, and when the next tick is due.
    began_ns: MonotonicNs,
    tick_ns: MonotonicNs,
    /// Containers of this sweep whose namespace is still to be looked up.
    unplaced: Vec<(IdentityId, InstanceId, Vec<IpAddr>)>,
    /// What is still to be sent in this sweep, and for whom.
    plan: BTreeMap<Way, Vec<IdentityId>>,
    /// Between two echoes, and when the next one may leave.
    gap_ns: u64,
    next_ns: MonotonicNs,
    /// Where the next sweep begins if there is more than one can ask.
    cursor: Option<(IdentityId, IpAddr)>,
    sources: Vec<Source>,
    /// By cookie.
    flying: HashMap<u64, Flying>,
    answers: BTreeMap<(IdentityId, IpAddr), Answer>,
    results: Results,
}

impl Pinger {
    /// Nothing is sent before the first tick. Says so when nothing can be sent at all.
    pub fn new(world: &World) -> Pinger {
        let rights = capabilities::effective_capabilities() & world.config.kept_capabilities.unwrap_or(!0);
        let is_able = rights & Capability::NetRaw.bit() != 0 && world.namespaces.is_some();
        if !is_able {
            warning!("--ping-upstreams: nothing is sent without CAP_NET_RAW");
        }
        let random = RandomState::new();
        let seed = random.hash_one(world.now_ns);
        Pinger {
            is_able,
            spacing_ns: spacing(world.config.interval).as_nanos() as u64,
            id: seed as u16,
            sent: seed >> 16 & 0xffff,
            random,
            began_ns: 0,
            tick_ns: world.now_ns,
            unplaced: Vec::new(),
            plan: BTreeMap::new(),
            gap_ns: 0,
            next_ns: 0,
            cursor: None,
            sources: Vec::new(),
            flying: HashMap::new(),
            answers: BTreeMap::new(),
            results: Results::default(),
        }
    }

    /// What came of echoes so far.
    pub fn results(&self) -> Results {
        self.results
    }

    /// The last round trips, in nanoseconds, of those who answered in the last minute.
    pub fn answers(&self, now_ns: MonotonicNs) -> impl Iterator<Item = (IdentityId, IpAddr, u64)> {
        let answers = self.answers.iter().filter(move |(_, answer)| is_fresh(answer, now_ns));
        answers.map(|(&(identity, address), answer)| (identity, address, answer.rtt_ns))
    }

    /// The one of a container to an address.
    pub fn answer(&self, identity: IdentityId, address: IpAddr, now_ns: MonotonicNs) -> Option<u64> {
        let answer = self.answers.get(&(identity, address)).filter(|answer| is_fresh(answer, now_ns));
        answer.map(|answer| answer.rtt_ns)
    }

    /// Forgets what is old, and what was said to containers that are gone.
    pub fn forget(&mut self, containers: &Containers, now_ns: MonotonicNs) {
        let living: HashSet<IdentityId> =
            containers.living().filter_map(|(_, instance, _)| instance.identity).collect();
        self.answers.retain(|(identity, _), answer| living.contains(identity) && is_fresh(answer, now_ns));
    }

    /// Descriptors of open sockets.
    pub fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        let sockets = self.sources.iter().flat_map(Source::sockets);
        sockets.for_each(|(_, socket)| wait(socket.as_raw_fd()));
    }

    /// Takes replies from the socket `fd`.
    pub fn ready(&mut self, fd: RawFd) {
        let Pinger { id, sources, flying, answers, results, .. } = self;
        let sockets = sources.iter().flat_map(|source| source.sockets().map(|each| (source.inode, each)));
        let found = sockets.into_iter().find(|(_, (_, socket))| socket.as_raw_fd() == fd);
        let Some((inode, (version, socket))) = found else { return };
        let mut buffer = [0; 128];
        for _ in 0..limits::PING_REPLIES_PER_TURN {
            // An error is of the socket's, not of an echo that could be named; it is gone once read.
            let Ok(Some(received)) = socket.receive(&mut buffer) else { return };
            let Some(echo) = Echo::parse_reply(version, received.packet) else { continue };
            let is_asked = |asked: &Flying| {
                asked.way == (inode, received.source) && asked.sequence == echo.sequence && echo.id == *id
            };
            if !flying.get(&echo.cookie).is_some_and(is_asked) {
                continue;
            }
            let answered_ns = clock::monotonic_ns();
            let Some(asked) = flying.remove(&echo.cookie) else { continue };
            let rtt_ns = asked.rtt_ns(received.wall_ns, answered_ns);
            if rtt_ns > TIME_NS {
                results.unanswered += 1;
                continue;
            }
            results.answered += 1;
            for identity in asked.identities {
                answers.insert((identity, asked.way.1), Answer { rtt_ns, answered_ns });
            }
        }
    }

    /// When there is something to do besides taking replies.
    pub fn tick_ns(&self) -> Option<MonotonicNs> {
        self.is_able.then_some(self.tick_ns)
    }

    /// Does what is due: gives up on what was not answered, begins a sweep, finds containers' namespaces, sends.
    pub fn tick(&mut self, totals: &BTreeMap<(IdentityId, Target), Total>, world: &mut World) {
        let now_ns = world.now_ns;
        self.give_up(now_ns);
        let is_idle = self.unplaced.is_empty() && self.plan.is_empty();
        if is_idle && self.began_ns + self.spacing_ns <= now_ns || self.began_ns == 0 {
            self.begin(totals, world);
        }
        if !self.unplaced.is_empty() {
            self.place(world);
            if self.unplaced.is_empty() {
                // In time for the last reply to be there before the next sweep.
                let spread_ns = self.spacing_ns - TIME_NS.min(self.spacing_ns / 2);
                let fastest_ns = 1_000_000_000 / limits::PINGS_PER_SECOND;
                self.gap_ns = (spread_ns / self.plan.len().max(1) as u64).max(fastest_ns);
                self.next_ns = now_ns;
            }
        } else {
            self.send(world);
        }
        self.close();
        self.tick_ns = self.next_tick_ns(now_ns);
    }

    fn next_tick_ns(&self, now_ns: MonotonicNs) -> MonotonicNs {
        if !self.unplaced.is_empty() {
            return now_ns;
        }
        let next_ns = if self.plan.is_empty() { self.began_ns + self.spacing_ns } else { self.next_ns };
        let given_up = self.flying.values().map(|flying| flying.sent_ns + TIME_NS).min();
        given_up.map_or(next_ns, |at| next_ns.min(at)).max(now_ns + SLICE_NS)
    }

    fn give_up(&mut self, now_ns: MonotonicNs) {
        let before = self.flying.len();
        self.flying.retain(|_, flying| flying.sent_ns + TIME_NS > now_ns);
        self.results.unanswered += (before - self.flying.len()) as u64;
    }

    /// Closes sockets that nothing is to be sent from and no answer is to come to.
    fn close(&mut self) {
        let (plan, flying) = (&self.plan, &self.flying);
        self.sources.retain(|source| {
            plan.range(ways_of(source.inode)).next().is_some()
                || flying.values().any(|flying| flying.way.0 == source.inode)
        });
    }

    fn begin(&mut self, totals: &BTreeMap<(IdentityId, Target), Total>, world: &mut World) {
        self.began_ns = world.now_ns;
        // The newest instance of each: an older one is on its way out.
        let instances: HashMap<IdentityId, InstanceId> = world
            .containers
            .living()
            .filter_map(|(id, instance, _)| Some((instance.identity?, id)))
            .collect();
        let mut targets = targets(totals);
        targets.retain(|(identity, _)| instances.contains_key(identity));
        let (chosen, cursor) = choose(&targets, self.cursor, limits::PING_TARGETS);
        if cursor.is_some() {
            world.reached.count(Limit::Pings);
        }
        self.cursor = cursor;
        let mut by_identity: BTreeMap<IdentityId, Vec<IpAddr>> = BTreeMap::new();
        for (identity, address) in chosen {
            by_identity.entry(identity).or_default().push(address);
        }
        self.unplaced = by_identity
            .into_iter()
            .filter_map(|(identity, addresses)| Some((identity, *instances.get(&identity)?, addresses)))
            .collect();
    }

    /// Finds the namespaces of some containers. Those without a process are left out.
    fn place(&mut self, world: &mut World) {
        for _ in 0..limits::PING_PLACES_PER_TURN {
            let Some((identity, instance, addresses)) = self.unplaced.pop() else { return };
            let Some(inode) = namespace_of(instance, world) else { continue };
            for address in addresses {
                self.plan.entry((inode, address)).or_default().push(identity);
            }
        }
    }

    /// Sends what is due of the plan.
    fn send(&mut self, world: &mut World) {
        let now_ns = world.now_ns;
        while self.next_ns <= now_ns {
            let Some((&(inode, address), _)) = self.plan.first_key_value() else { return };
            let is_open = self.sources.iter().any(|source| source.inode == inode);
            if !is_open && self.sources.len() >= limits::PING_NAMESPACES {
                // Until another one is done; what is late then does not leave all at once.
                self.next_ns = now_ns + SLICE_NS;
                return;
            }
            let Some((way, identities)) = self.plan.pop_first() else { return };
            // After a long turn only what belongs to one slice is made up for.
            self.next_ns = (self.next_ns + self.gap_ns).max(now_ns.saturating_sub(SLICE_NS));
            let version = Version::of(address);
            match self.socket(inode, version, world) {
                Ok(true) => self.ask(way, version, identities),
                Ok(false) => {}
                Err(()) => self.results.failed += 1,
            }
        }
    }

    /// Has a socket open in the namespace, or in the host's where that is not allowed; false when the namespace is gone.
    fn socket(&mut self, inode: u64, version: Version, world: &mut World) -> Result<bool, ()> {
        let known = self.sources.iter_mut().find(|source| source.inode == inode);
        let is_open = known.is_some_and(|source| source.sockets().any(|(each, _)| each == version));
        if is_open {
            return Ok(true);
        }
        let namespaces = world.namespaces.as_mut().ok_or(())?;
        let opened = match namespaces.open_echo(&world.host, inode, version, self.id) {
            Err(_) if inode != namespaces.host() => {
                let host = namespaces.host();
                namespaces.open_echo(&world.host, host, version, self.id)
            }
            opened => opened,
        };
        let Some(socket) = opened.map_err(|_| ())? else { return Ok(false) };
        let at = self.sources.iter().position(|source| source.inode == inode).unwrap_or_else(|| {
            self.sources.push(Source { inode, v4: None, v6: None });
            self.sources.len() - 1
        });
        match version {
            Version::V4 => self.sources[at].v4 = Some(socket),
            Version::V6 => self.sources[at].v6 = Some(socket),
        }
        Ok(true)
    }

    fn ask(&mut self, way: Way, version: Version, identities: Vec<IdentityId>) {
        let source = self.sources.iter().find(|source| source.inode == way.0);
        let socket = source.and_then(|source| source.sockets().find(|(each, _)| *each == version));
        let Some((_, socket)) = socket else { return };
        self.sent = self.sent.wrapping_add(1);
        // Keyed by what only this process knows.
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.sent);
        let echo = Echo { id: self.id, sequence: self.sent as u16, cookie: hasher.finish() };
        let request = echo.request(version);
        let (sent_ns, sent_wall_ns) = (clock::monotonic_ns(), clock::wall_ns());
        match socket.send(way.1, &request) {
            Ok(()) => {
                let flying = Flying { way, sequence: echo.sequence, sent_ns, sent_wall_ns, identities };
                self.flying.insert(echo.cookie, flying);
            }
            Err(_) => self.results.failed += 1,
        }
    }
}

impl Flying {
    /// By the kernel's time of the reply, which a late turn of the loop does not lengthen, unless the wall clock was set in
    /// between.
    fn rtt_ns(&self, received_wall_ns: WallNs, read_ns: MonotonicNs) -> u64 {
        let elapsed_ns = read_ns.saturating_sub(self.sent_ns);
        let stamped_ns = received_wall_ns.checked_sub(self.sent_wall_ns);
        stamped_ns.filter(|&ns| 0 < ns && ns <= elapsed_ns).unwrap_or(elapsed_ns)
    }
}

fn is_fresh(answer: &Answer, now_ns: MonotonicNs) -> bool {
    now_ns.saturating_sub(answer.answered_ns) < AGE_NS
}

/// All that can be asked from one namespace.
fn ways_of(inode: u64) -> std::ops::RangeInclusive<Way> {
    (inode, Ipv4Addr::UNSPECIFIED.into())..=(inode, Ipv6Addr::from_bits(!0).into())
}

/// From one sweep to the next: the interval, unless values would end before the next one, or echoes still fly.
fn spacing(interval: Duration) -> Duration {
    interval.clamp(limits::PING_TIME, limits::PING_AGE / 2)
}

/// Where containers connect to, and where they fail to; not who cannot be reached by pinging, as loopback.
fn targets(totals: &BTreeMap<(IdentityId, Target), Total>) -> BTreeSet<(IdentityId, IpAddr)> {
    let mut found = BTreeSet::new();
    for ((identity, target), total) in totals {
        for split in &total.splits {
            // Somebody else answers for it: what the address itself stands for is nobody.
            if split.values.is_zero() && split.active == 0 && total.splits.len() > 1 {
                continue;
            }
            let address = measured_address(*target, split.actual).filter(|address| !address.is_unspecified());
            found.extend(address.map(|address| (*identity, address)));
        }
    }
    found
}

/// At most `most` of `all`, from `cursor` on and round the end; with where to go on when there are more.
fn choose<T: Ord + Copy>(all: &BTreeSet<T>, cursor: Option<T>, most: usize) -> (Vec<T>, Option<T>) {
    let start = cursor.filter(|_| all.len() > most).or_else(|| all.first().copied());
    let Some(start) = start else { return (Vec::new(), None) };
    let mut round = all.range(start..).chain(all.range(..start)).copied();
    let chosen = round.by_ref().take(most).collect();
    (chosen, round.next())
}

/// The network namespace of a container: that of any process of it, or the host's where one may not look; `None` when it has
/// no process.
fn namespace_of(instance: InstanceId, world: &mut World) -> Option<u64> {
    let path = world.containers.instance(instance)?.path.trim_start_matches('/');
    let namespaces = world.namespaces.as_mut()?;
    let mut searched = 0;
    let mut places = world.hierarchies.searched();
    let pid = places.find_map(|(_, mount)| mounts::first_process(&mount.join(path), &mut searched))?;
    match namespaces.note_process(&world.host, pid) {
        Ok(inode) => inode,
        Err(_) => Some(namespaces.host()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Destination;
    use super::super::total::Actual;
    use super::*;

    #[test]
    fn all_have_their_turn() {
        let all: BTreeSet<u32> = (0..10).collect();
        assert_eq!(choose(&all, None, 10), ((0..10).collect(), None));
        assert_eq!(choose(&all, Some(5), 10), ((0..10).collect(), None));
        let (first, cursor) = choose(&all, None, 4);
        let (second, cursor) = choose(&all, cursor, 4);
        let (third, cursor) = choose(&all, cursor, 4);
        assert_eq!((first, second, third), (vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9, 0, 1]));
        assert_eq!(cursor, Some(2));
        // What it stood at is gone.
        let odd: BTreeSet<u32> = [1, 3, 5].into();
        assert_eq!(choose(&odd, cursor, 2), (vec![3, 5], Some(1)));
        assert_eq!(choose::<u32>(&BTreeSet::new(), cursor, 2), (vec![], None));
    }

    #[test]
    fn those_who_answer_are_asked() {
        let at = |last: u8| Destination { address: Ipv4Addr::new(10, 0, 0, last).into(), port: 80 };
        let mut containers =
            crate::containers::Containers::new(crate::registry::ConstLabels::default(), Duration::ZERO);
        let place = crate::containers::hierarchies::Place::V2;
        containers.appeared(place, 7, "/system.slice/a.service", |_| None, 1);
        let host = crate::host::Host::new(std::path::Path::new("/nonexistent"), None);
        containers.settle(&host, 1, &mut std::collections::VecDeque::new());
        let identity = containers.living().find_map(|(_, instance, _)| instance.identity).unwrap();

        let mut totals = BTreeMap::new();
        // One that failed, a translated one, one of this host, one nobody knows the peer of, those beyond the cap.
        let mut failed = Total::new(Some(at(1)), 0);
        failed.failures = 1;
        totals.insert((identity, Some(at(1))), failed);
        let mut service = Total::new(Some(at(2)), 0);
        service.split(Actual::At(at(3)), 0).values.successes = 1;
        service.split(Actual::At(at(4)), 0).active = 1;
        service.split(Actual::Unknown, 0).values.successes = 1;
        totals.insert((identity, Some(at(2))), service);
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::UNSPECIFIED.into()] {
            let local = Some(Destination { address, port: 1 });
            totals.insert((identity, local), Total::new(local, 0));
        }
        totals.insert((identity, None), Total::new(None, 0));
        let expected: BTreeSet<_> = [1, 3, 4].map(|last| (identity, at(last).address)).into();
        assert_eq!(targets(&totals), expected);
    }

    #[test]
    fn a_wall_clock_that_was_set_is_not_believed() {
        let asked = Flying {
            way: (1, Ipv4Addr::LOCALHOST.into()),
            sequence: 0,
            sent_ns: 1_000,
            sent_wall_ns: 50_000,
            identities: Vec::new(),
        };
        assert_eq!(asked.rtt_ns(50_200, 1_500), 200);
        for wrong in [49_000, 50_000, 60_000] {
            assert_eq!(asked.rtt_ns(wrong, 1_500), 500);
        }
    }

    #[test]
    fn an_answer_is_of_use_for_a_minute() {
        let answer = Answer { rtt_ns: 5, answered_ns: 1_000 };
        assert!(is_fresh(&answer, 1_000) && is_fresh(&answer, 60_000_000_999));
        assert!(!is_fresh(&answer, 60_000_001_000));
    }

    #[test]
    fn sweeps_are_neither_too_often_nor_too_rare() {
        assert_eq!(spacing(Duration::from_secs(15)), Duration::from_secs(15));
        assert_eq!(spacing(Duration::from_secs(300)), Duration::from_secs(30));
        assert_eq!(spacing(Duration::from_millis(10)), Duration::from_secs(1));
    }
}
