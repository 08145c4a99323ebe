//! Clouds: which one this machine is in by what its firmware says, what the metadata service there is asked, and what it answers.
//!
//! A cloud is a file with a [`Cloud`] and a line in [`CLOUDS`]. Nothing here opens a socket: [`exchange`] has one request on
//! one, [`inquiry`] the order of requests, `collectors/cloud.rs` the clock.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod alibaba;
mod aws;
mod azure;
mod digitalocean;
pub mod document;
pub mod exchange;
pub mod firmware;
mod gcp;
mod hetzner;
mod ibm;
pub mod inquiry;
pub mod message;
mod oracle;
mod scaleway;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::args::CloudLabels;
use crate::host::Host;
use firmware::Firmware;

/// Every cloud that is known. No machine's firmware is two of them's.
pub const CLOUDS: &[&Cloud] = &[
    &aws::CLOUD,
    &gcp::CLOUD,
    &azure::CLOUD,
    &hetzner::CLOUD,
    &digitalocean::CLOUD,
    &alibaba::CLOUD,
    &scaleway::CLOUD,
    &oracle::CLOUD,
    &ibm::CLOUD,
];

/// Where most clouds answer.
const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A cloud: how it is recognised, and how it is asked.
pub struct Cloud {
    /// Label `provider`.
    pub provider: &'static str,
    /// Whether a machine with this firmware is one of its instances. Only then is anything sent.
    pub is_here: fn(&Firmware<'_>) -> bool,
    /// Where its metadata service is, port 80.
    pub address: Ipv4Addr,
    /// Header `Host`, if it is not the address.
    pub host: Option<&'static str>,
    /// A header line that every request but the one for a token needs; empty for none.
    pub header: &'static str,
    /// What has to be asked for first.
    pub token: Option<Token>,
    /// What is asked, in this order.
    pub requests: &'static [Request],
    /// Makes of what was taken from an answer, and maybe more than once, what it means.
    pub settle: fn(&mut Metadata),
    /// How it says that it will take the instance away.
    pub notice: Option<Notice>,
}

/// A token that other requests carry.
pub struct Token {
    /// The path of the PUT.
    pub path: &'static str,
    /// The header line that the PUT needs.
    pub header: &'static str,
    /// The body of the PUT.
    pub body: &'static str,
    /// The token in its answer.
    pub parse: fn(&[u8]) -> Option<String>,
    /// The header line that carries it, up to the token itself.
    pub carrier: &'static str,
    /// False where the service may be of a version that gives none, and answers without.
    pub is_required: bool,
}

/// A GET and what its answer tells.
pub struct Request {
    /// With the query.
    pub path: &'static str,
    /// What its body is.
    pub form: Form,
    /// Whether an instance without it is one of which nothing is known; else 404 means that it has no such thing.
    pub is_required: bool,
}

/// What a body is, and which parts of it are wanted.
pub enum Form {
    /// One word.
    Word(Field),
    /// JSON: members by their path, `a.0.b`.
    Json(&'static [(&'static str, Field)]),
    /// Lines of a key, what separates it from its value, and that, which may be in quotes.
    Lines(&'static str, &'static [(&'static str, Field)]),
}

impl Request {
    /// Takes what the body says; false when it makes no sense.
    pub fn take(&self, body: &[u8], metadata: &mut Metadata) -> bool {
        let mut take = |wanted: &[(&str, Field)], name: &str, value: &str| {
            if let Some((_, field)) = wanted.iter().find(|(known, _)| *known == name) {
                metadata.take(*field, value.as_bytes());
            }
        };
        let is_whole = match self.form {
            Form::Word(field) => metadata.take(field, body),
            Form::Json(wanted) => document::members(body, &mut |path, value| take(wanted, path, value)),
            Form::Lines(separator, wanted) => {
                document::lines(body, separator, &mut |key, value| take(wanted, key, value))
            }
        };
        is_whole && !(self.is_required && metadata.get(Field::InstanceId).is_empty())
    }
}

/// Where a cloud says that it will take the instance away.
pub struct Notice {
    /// The path of the GET. 404 means that nothing is known.
    pub path: &'static str,
    /// The life cycle that such instances have.
    pub life_cycle: &'static str,
    /// How often it is asked: a fraction of the time between the notice and the end.
    pub interval: Duration,
    /// Whether this instance will be taken away; `None` when the body makes no sense.
    pub parse: fn(&[u8], &Metadata) -> Option<bool>,
}

/// What can be known of an instance: the labels of `node_cloud_info`, in their order, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// One of [`CLOUDS`], or what `--provider` says.
    Provider,
    /// The account, project or subscription that pays.
    AccountId,
    /// The instance's id.
    InstanceId,
    /// Its kind of machine.
    InstanceType,
    /// How it is paid for, which says how it ends: `on-demand`, `spot`, `preemptible`.
    LifeCycle,
    /// Where it is.
    Region,
    /// Where in the region it is.
    Zone,
    /// The zone's id, the same for all accounts (AWS).
    ZoneId,
    /// The address inside.
    LocalIpv4,
    /// The address outside.
    PublicIpv4,
    /// Its name, where notices call it by that; no label.
    Name,
}

/// How many of them are labels.
const LABELS: usize = Field::PublicIpv4 as usize + 1;

/// What is known of the instance; nothing is the empty string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata([String; Field::Name as usize + 1]);

impl Metadata {
    /// What is known of any instance of a provider.
    pub fn of(provider: &str) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.set(Field::Provider, provider);
        metadata
    }

    /// What is known.
    pub fn get(&self, field: Field) -> &str {
        self.0.get(field as usize).map_or("", String::as_str)
    }

    /// Sets it, whatever was known.
    pub fn set(&mut self, field: Field, value: &str) {
        if let Some(known) = self.0.get_mut(field as usize) {
            value.clone_into(known);
        }
    }

    /// Takes it from an answer unless it is known already; false if it makes no sense.
    fn take(&mut self, field: Field, value: &[u8]) -> bool {
        let value = match field {
            Field::LocalIpv4 | Field::PublicIpv4 => document::address(value),
            _ => document::word(value),
        };
        if let Some(value) = value.filter(|_| self.get(field).is_empty()) {
            self.set(field, value);
        }
        value.is_some()
    }

    /// The values of the labels of `node_cloud_info`.
    pub fn labels(&self) -> [&str; LABELS] {
        let mut labels = [""; LABELS];
        for (label, value) in labels.iter_mut().zip(&self.0) {
            *label = value;
        }
        labels
    }

    /// Flags that are given stand above what is known.
    pub fn take_flags(&mut self, flags: &CloudLabels) {
        for (field, flag) in [
            (Field::Provider, &flags.provider),
            (Field::Region, &flags.region),
            (Field::Zone, &flags.availability_zone),
            (Field::InstanceType, &flags.instance_type),
            (Field::LifeCycle, &flags.instance_life_cycle),
        ] {
            if !flag.is_empty() {
                self.set(field, flag);
            }
        }
    }

    /// What `newer`, which has not everything, knows stands above what is known.
    pub fn take_newer(&mut self, newer: Metadata) {
        for (known, newer) in self.0.iter_mut().zip(newer.0) {
            if !newer.is_empty() {
                *known = newer;
            }
        }
    }

    /// Has the region be what is in front of the last dash of a zone such as `us-central1-a` or `fr-par-1`.
    fn set_region_of_zone(&mut self) {
        let region = self.get(Field::Zone).rsplit_once('-').map(|(region, _)| region.to_owned());
        self.set(Field::Region, &region.unwrap_or_default());
    }
}

/// The cloud this machine is in, if its firmware names one.
pub fn detect(host: &Host) -> Option<&'static Cloud> {
    Firmware::of(host, |firmware| CLOUDS.iter().copied().find(|cloud| (cloud.is_here)(firmware)))
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use crate::procfs::fuzz::hammer;

    /// Takes `body` as the answer to the request for `path`; whether it made sense.
    pub(crate) fn answer(cloud: &Cloud, path: &str, body: &[u8], metadata: &mut Metadata) -> bool {
        let request = cloud.requests.iter().find(|request| request.path == path);
        let request = request.unwrap_or_else(|| panic!("{path} is not asked of {}", cloud.provider));
        let makes_sense = request.take(body, metadata);
        (cloud.settle)(metadata);
        makes_sense
    }

    /// What a whole set of answers says; each must make sense, and damaged ones must do no harm.
    pub(crate) fn metadata(cloud: &Cloud, answers: &[(&str, &str)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (path, body) in answers {
            assert!(answer(cloud, path, body.as_bytes(), &mut metadata), "{path}: {body}");
            hammer(body.as_bytes(), |damaged| {
                let mut metadata = Metadata::default();
                answer(cloud, path, damaged, &mut metadata);
                for field in &metadata.0 {
                    assert!(field.is_empty() || document::word(field.as_bytes()) == Some(field), "{field:?}");
                }
                let once = metadata.clone();
                (cloud.settle)(&mut metadata);
                assert_eq!(metadata, once);
            });
        }
        let asked: Vec<&str> = cloud.requests.iter().map(|request| request.path).collect();
        assert!(asked.iter().all(|path| answers.iter().any(|(answered, _)| answered == path)), "{asked:?}");
        metadata
    }

    /// The labels but for the provider.
    pub(crate) fn labels(metadata: &Metadata) -> &[String] {
        &metadata.0[1..LABELS]
    }

    #[test]
    fn requests_are_well_formed() {
        for cloud in CLOUDS {
            let paths = cloud.requests.iter().map(|request| request.path);
            let paths = paths.chain(cloud.token.iter().map(|token| token.path));
            let paths = paths.chain(cloud.notice.iter().map(|notice| notice.path));
            for path in paths {
                assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
            }
            assert!(!cloud.header.contains('\n'));
            assert_eq!(cloud.requests.iter().filter(|request| request.is_required).count(), 1);
        }
    }

    #[test]
    fn flags_stand_above_what_is_known() {
        let place = |metadata: &Metadata| {
            [Field::Provider, Field::Region, Field::Zone].map(|field| metadata.get(field).to_owned())
        };
        let mut known = Metadata::of("AWS");
        assert!(known.take(Field::Region, b"a") && known.take(Field::Zone, b"a-1"));
        // What was learned first stands.
        assert!(known.take(Field::Zone, b"c-3") && !known.take(Field::PublicIpv4, b"c-3"));
        let flags = CloudLabels { region: "b".into(), provider: "mine".into(), ..CloudLabels::default() };
        known.take_flags(&flags);
        assert_eq!(place(&known), ["mine", "b", "a-1"]);
        let mut newer = Metadata::default();
        newer.set(Field::Zone, "b-2");
        known.take_newer(newer);
        assert_eq!(place(&known), ["mine", "b", "b-2"]);
    }
}
