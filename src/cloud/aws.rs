//! Amazon EC2, by IMDSv2 or, where a token is not to be had, IMDSv1
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>).

use std::time::Duration;

use super::document::{members, word};
use super::firmware::Firmware;
use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Notice, Request, Token};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "AWS",
    is_here,
    address: LINK_LOCAL,
    host: None,
    header: "",
    token: Some(Token {
        path: "/latest/api/token",
        header: "X-aws-ec2-metadata-token-ttl-seconds: 21600",
        body: "",
        parse: |body| word(body).map(str::to_owned),
        carrier: "X-aws-ec2-metadata-token: ",
        is_required: false,
    }),
    requests: &[
        // Most of what there is in one answer: each request is a round trip of an instance's small budget.
        Request {
            path: "/latest/dynamic/instance-identity/document",
            form: Form::Json(&[
                ("accountId", Field::AccountId),
                ("instanceId", Field::InstanceId),
                ("instanceType", Field::InstanceType),
                ("region", Field::Region),
                ("availabilityZone", Field::Zone),
                ("privateIp", Field::LocalIpv4),
            ]),
            is_required: true,
        },
        Request {
            path: "/latest/meta-data/instance-life-cycle",
            form: Form::Word(Field::LifeCycle),
            is_required: false,
        },
        Request {
            path: "/latest/meta-data/placement/availability-zone-id",
            form: Form::Word(Field::ZoneId),
            is_required: false,
        },
        Request {
            path: "/latest/meta-data/public-ipv4",
            form: Form::Word(Field::PublicIpv4),
            is_required: false,
        },
    ],
    settle: |_| {},
    // Two minutes in front of the end.
    notice: Some(Notice {
        path: "/latest/meta-data/spot/instance-action",
        life_cycle: "spot",
        interval: Duration::from_secs(5),
        parse: parse_notice,
    }),
};

/// `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`
fn parse_notice(body: &[u8], _: &Metadata) -> Option<bool> {
    let mut has_action = false;
    let is_whole = members(body, &mut |path, _| has_action |= path == "action");
    is_whole.then_some(has_action)
}

fn is_here(firmware: &Firmware<'_>) -> bool {
    if ["sys_vendor", "board_vendor", "bios_vendor"].into_iter().any(|file| firmware.is(file, "Amazon EC2")) {
        return true;
    }
    // Instances on Xen; paravirtual ones have no DMI. Every 4,096th guest elsewhere has such an id.
    let version = firmware.dmi("bios_version");
    let is_amazon = version.is_empty() || version.contains("amazon");
    is_amazon && firmware.xen().get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ec2"))
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;
    use crate::procfs::fuzz::hammer;

    const DOCUMENT: &str = r#"{
  "accountId" : "123456789012",
  "architecture" : "x86_64",
  "availabilityZone" : "eu-west-1a",
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : [ "1abc2defghijklm3nopqrs4tu" ],
  "imageId" : "ami-5fb8c835",
  "instanceId" : "i-0abc",
  "instanceType" : "m5.large",
  "kernelId" : null,
  "pendingTime" : "2016-11-19T16:32:11Z",
  "privateIp" : "10.0.0.5",
  "ramdiskId" : null,
  "region" : "eu-west-1",
  "version" : "2017-09-30"
}"#;

    #[test]
    fn answers() {
        let metadata = metadata(
            &CLOUD,
            &[
                ("/latest/dynamic/instance-identity/document", DOCUMENT),
                ("/latest/meta-data/instance-life-cycle", "spot"),
                ("/latest/meta-data/placement/availability-zone-id", "euw1-az1"),
                ("/latest/meta-data/public-ipv4", "1.2.3.4"),
            ],
        );
        assert_eq!(
            labels(&metadata),
            [
                "123456789012",
                "i-0abc",
                "m5.large",
                "spot",
                "eu-west-1",
                "eu-west-1a",
                "euw1-az1",
                "10.0.0.5",
                "1.2.3.4"
            ]
        );
        let mut metadata = Metadata::default();
        for bad in ["", "{}", "<html></html>", &DOCUMENT[..100]] {
            let path = "/latest/dynamic/instance-identity/document";
            assert!(!answer(&CLOUD, path, bad.as_bytes(), &mut metadata), "{bad}");
        }
    }

    #[test]
    fn notices() {
        let body = br#"{"action": "terminate", "time": "2017-09-18T08:22:00Z"}"#;
        let parse = |body: &[u8]| parse_notice(body, &Metadata::default());
        assert_eq!(parse(body), Some(true));
        assert_eq!(parse(b"{}"), Some(false));
        assert_eq!(parse(b"<html>"), None);
        hammer(body, |body| {
            parse(body);
        });
    }
}
