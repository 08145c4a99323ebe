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
    pub is_here: fn(&Firmware) -> bool,
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
    /// Takes what the body says; false when it makes no sense.
    pub take: fn(&[u8], &mut Metadata) -> bool,
    /// Whether an instance without it is one of which nothing is known; else 404 means that it has no such thing.
    pub is_required: bool,
}

/// Where a cloud says that it will take the instance away.
pub struct Notice {
    /// The path of the GET. 404 means that nothing is known.
    pub path: &'static str,
    /// What [`Metadata::life_cycle`] such instances have.
    pub life_cycle: &'static str,
    /// How often it is asked: a fraction of the time between the notice and the end.
    pub interval: Duration,
    /// Whether this instance will be taken away; `None` when the body makes no sense.
    pub parse: fn(&[u8], &Metadata) -> Option<bool>,
}

/// What is known of the instance; nothing is the empty string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// One of [`CLOUDS`], or what `--provider` says.
    pub provider: String,
    /// The account, project or subscription that pays.
    pub account_id: String,
    /// The instance's id.
    pub instance_id: String,
    /// Its name, where notices call it by that; no label.
    pub name: String,
    /// Its kind of machine.
    pub instance_type: String,
    /// How it is paid for, which says how it ends: `on-demand`, `spot`, `preemptible`.
    pub life_cycle: String,
    /// Where it is.
    pub region: String,
    /// Where in the region it is.
    pub zone: String,
    /// The zone's id, the same for all accounts (AWS).
    pub zone_id: String,
    /// The address inside.
    pub local_ipv4: String,
    /// The address outside.
    pub public_ipv4: String,
}

impl Metadata {
    /// What flags say.
    pub fn of_flags(flags: &CloudLabels) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.take_flags(flags);
        metadata
    }

    /// Flags that are given stand above what is known.
    pub fn take_flags(&mut self, flags: &CloudLabels) {
        for (known, flag) in [
            (&mut self.provider, &flags.provider),
            (&mut self.region, &flags.region),
            (&mut self.zone, &flags.availability_zone),
            (&mut self.instance_type, &flags.instance_type),
            (&mut self.life_cycle, &flags.instance_life_cycle),
        ] {
            if !flag.is_empty() {
                known.clone_from(flag);
            }
        }
    }

    /// What `newer`, which has not everything, knows stands above what is known.
    pub fn take_newer(&mut self, newer: &Metadata) {
        for (known, newer) in self.fields_mut().into_iter().zip(newer.clone().fields_mut()) {
            if !newer.is_empty() {
                std::mem::swap(known, newer);
            }
        }
    }

    fn fields_mut(&mut self) -> [&mut String; 11] {
        [
            &mut self.provider,
            &mut self.account_id,
            &mut self.instance_id,
            &mut self.name,
            &mut self.instance_type,
            &mut self.life_cycle,
            &mut self.region,
            &mut self.zone,
            &mut self.zone_id,
            &mut self.local_ipv4,
            &mut self.public_ipv4,
        ]
    }
}

/// The cloud this machine is in, if its firmware names one.
pub fn detect(firmware: &Firmware) -> Option<&'static Cloud> {
    CLOUDS.iter().copied().find(|cloud| (cloud.is_here)(firmware))
}

/// A region from a zone such as `us-central1-a` or `fr-par-1`: all in front of the last dash.
fn region_of_zone(zone: &str) -> &str {
    zone.rsplit_once('-').map_or("", |(region, _)| region)
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use crate::procfs::fuzz::hammer;

    /// Takes `body` as the answer to the request for `path`; whether it made sense.
    pub(crate) fn answer(cloud: &Cloud, path: &str, body: &[u8], metadata: &mut Metadata) -> bool {
        let request = cloud.requests.iter().find(|request| request.path == path);
        let request = request.unwrap_or_else(|| panic!("{path} is not asked of {}", cloud.provider));
        (request.take)(body, metadata)
    }

    /// What a whole set of answers says; each must make sense, and damaged ones must do no harm.
    pub(crate) fn metadata(cloud: &Cloud, answers: &[(&str, &str)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (path, body) in answers {
            assert!(answer(cloud, path, body.as_bytes(), &mut metadata), "{path}: {body}");
            hammer(body.as_bytes(), |damaged| {
                let mut metadata = Metadata::default();
                answer(cloud, path, damaged, &mut metadata);
                for field in metadata.fields_mut() {
                    assert!(field.is_empty() || document::word(field.as_bytes()) == Some(field), "{field:?}");
                }
            });
        }
        let asked: Vec<&str> = cloud.requests.iter().map(|request| request.path).collect();
        assert!(asked.iter().all(|path| answers.iter().any(|(answered, _)| answered == path)), "{asked:?}");
        metadata
    }

    /// Provider and life cycle aside, in the order of the labels.
    pub(crate) fn labels(metadata: &Metadata) -> [&str; 9] {
        [
            &metadata.account_id,
            &metadata.instance_id,
            &metadata.instance_type,
            &metadata.life_cycle,
            &metadata.region,
            &metadata.zone,
            &metadata.zone_id,
            &metadata.local_ipv4,
            &metadata.public_ipv4,
        ]
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
        let mut known = Metadata { region: "a".into(), zone: "a-1".into(), ..Metadata::default() };
        let flags = CloudLabels { region: "b".into(), provider: "mine".into(), ..CloudLabels::default() };
        known.take_flags(&flags);
        assert_eq!((&*known.region, &*known.zone, &*known.provider), ("b", "a-1", "mine"));
        let newer = Metadata { zone: "b-2".into(), ..Metadata::default() };
        known.take_newer(&newer);
        assert_eq!((&*known.region, &*known.zone), ("b", "b-2"));
    }
}
