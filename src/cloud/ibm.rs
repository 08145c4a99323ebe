//! IBM Cloud VPC (<https://cloud.ibm.com/apidocs/vpc-metadata>), at the link-local address its name stands for. Instances whose
//! service is set to https alone do not answer here.

use super::document::members;
use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Request, Token};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "IBM",
    is_here: |firmware| firmware.dmi("chassis_vendor").starts_with("IBM:Cloud Compute Server"),
    address: LINK_LOCAL,
    host: Some("api.metadata.cloud.ibm.com"),
    header: "",
    token: Some(Token {
        path: "/instance_identity/v1/token?version=2025-04-22",
        header: "Metadata-Flavor: ibm",
        body: r#"{"expires_in": 300}"#,
        parse: parse_token,
        carrier: "Authorization: Bearer ",
        is_required: true,
    }),
    requests: &[Request {
        path: "/metadata/v1/instance?version=2025-04-22",
        form: Form::Json(&[
            ("crn", Field::AccountId),
            ("id", Field::InstanceId),
            ("profile.name", Field::InstanceType),
            ("zone.name", Field::Zone),
            ("primary_network_interface.primary_ip.address", Field::LocalIpv4),
            ("primary_network_attachment.primary_ip.address", Field::LocalIpv4),
        ]),
        is_required: true,
    }],
    settle,
    notice: None,
};

/// A signed token, of some 2 KiB.
fn parse_token(body: &[u8]) -> Option<String> {
    let mut token = None;
    let is_whole = members(body, &mut |path, value| {
        if path == "access_token" && value.len() <= 8192 && value.bytes().all(|byte| byte.is_ascii_graphic())
        {
            token = Some(value.to_owned());
        }
    });
    token.filter(|token| is_whole && !token.is_empty())
}

fn settle(metadata: &mut Metadata) {
    metadata.set_region_of_zone();
    // `crn:v1:bluemix:public:is:us-south-1:a/ACCOUNT::instance:ID`
    let crn = metadata.get(Field::AccountId);
    if crn.contains(':') {
        let account = crn.split(':').find_map(|part| part.strip_prefix("a/")).unwrap_or_default().to_owned();
        metadata.set(Field::AccountId, &account);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;
    use crate::procfs::fuzz::hammer;

    const PATH: &str = "/metadata/v1/instance?version=2025-04-22";

    const INSTANCE: &str = r#"{
  "bandwidth": 4000,
  "boot_volume_attachment": { "id": "0717-boot", "name": "vol", "volume": { "id": "r006-vol", "crn": "crn:v1:x" } },
  "created_at": "2020-03-26T16:11:57Z",
  "crn": "crn:v1:bluemix:public:is:us-south-1:a/123456::instance:0717_1e09281b-f177-46fb-baf1-bc152b2e391a",
  "disks": [],
  "id": "0717_1e09281b-f177-46fb-baf1-bc152b2e391a",
  "image": { "id": "r006-image", "name": "ubuntu" },
  "memory": 8,
  "name": "my-instance",
  "network_interfaces": [ { "id": "0717-nic", "name": "eth0", "primary_ip": { "address": "10.0.0.32" } } ],
  "primary_network_interface": { "id": "0717-nic", "name": "eth0", "primary_ip": { "address": "10.0.0.32" } },
  "profile": { "name": "bx2-2x8", "resource_type": "instance_profile" },
  "status": "running",
  "vcpu": { "architecture": "amd64", "count": 2 },
  "vpc": { "id": "r006-vpc", "name": "my-vpc" },
  "zone": { "name": "us-south-1" }
}"#;

    #[test]
    fn answers() {
        let metadata = metadata(&CLOUD, &[(PATH, INSTANCE)]);
        assert_eq!(
            labels(&metadata),
            [
                "123456",
                "0717_1e09281b-f177-46fb-baf1-bc152b2e391a",
                "bx2-2x8",
                "",
                "us-south",
                "us-south-1",
                "",
                "10.0.0.32",
                ""
            ]
        );
        assert!(!answer(&CLOUD, PATH, br#"{"errors":[{"code":"x"}]}"#, &mut Metadata::default()));
    }

    #[test]
    fn tokens() {
        let body = br#"{"access_token":"eyJ.a-b_c.d","created_at":"x","expires_at":"y","expires_in":300}"#;
        assert_eq!(parse_token(body).as_deref(), Some("eyJ.a-b_c.d"));
        for bad in [&b"{}"[..], b"", br#"{"access_token":""}"#, br#"{"access_token":"a\r\nb"}"#] {
            assert_eq!(parse_token(bad), None);
        }
        hammer(body, |body| drop(parse_token(body)));
    }
}
