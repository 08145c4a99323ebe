//! Oracle Cloud Infrastructure (<https://docs.oracle.com/iaas/Content/Compute/Tasks/gettingmetadata.htm>).

use super::document::{members, take_address, take_word};
use super::{Cloud, LINK_LOCAL, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Oracle",
    is_here: |firmware| firmware.chassis_asset_tag == "OracleCloud.com",
    address: LINK_LOCAL,
    host: None,
    header: "Authorization: Bearer Oracle",
    token: None,
    requests: &[
        Request { path: "/opc/v2/instance/", take: take_instance, is_required: true },
        Request { path: "/opc/v2/vnics/", take: take_vnics, is_required: false },
    ],
    notice: None,
};

fn take_instance(body: &[u8], metadata: &mut Metadata) -> bool {
    let mut domain = String::new();
    let is_whole = members(body, |path, value| {
        let value = value.as_bytes();
        match path {
            "id" => take_word(&mut metadata.instance_id, value),
            "tenantId" => take_word(&mut metadata.account_id, value),
            "shape" => take_word(&mut metadata.instance_type, value),
            "canonicalRegionName" => take_word(&mut metadata.region, value),
            "availabilityDomain" => take_word(&mut domain, value),
            _ => false,
        };
    });
    // `Uocm:EU-FRANKFURT-1-AD-2`: what is in front of the number differs from tenancy to tenancy.
    let number = domain.rsplit_once("-AD-").map(|(_, number)| number);
    if let Some(number) = number.filter(|_| !metadata.region.is_empty()) {
        let zone = format!("{}-ad-{number}", metadata.region);
        take_word(&mut metadata.zone, zone.as_bytes());
    }
    is_whole && !metadata.instance_id.is_empty()
}

/// The first is the primary one. Public addresses are unknown here.
fn take_vnics(body: &[u8], metadata: &mut Metadata) -> bool {
    members(body, |path, value| {
        if path == "0.privateIp" {
            take_address(&mut metadata.local_ipv4, value.as_bytes());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;

    const INSTANCE: &str = r#"{
  "agentConfig" : { "allPluginsDisabled" : false, "managementDisabled" : false, "monitoringDisabled" : false },
  "availabilityDomain" : "Uocm:EU-FRANKFURT-1-AD-2",
  "canonicalRegionName" : "eu-frankfurt-1",
  "compartmentId" : "ocid1.compartment.oc1..aaaa",
  "displayName" : "web-1",
  "faultDomain" : "FAULT-DOMAIN-1",
  "hostname" : "web-1",
  "id" : "ocid1.instance.oc1.eu-frankfurt-1.abtheljr",
  "image" : "ocid1.image.oc1.eu-frankfurt-1.aaaa",
  "metadata" : { "ssh_authorized_keys" : "ssh-rsa AAAA", "user_data" : "IyEvYmluL2Jhc2g=" },
  "ociAdName" : "eu-frankfurt-1-ad-2",
  "region" : "eu-frankfurt-1",
  "regionInfo" : { "realmKey" : "oc1", "regionIdentifier" : "eu-frankfurt-1", "regionKey" : "FRA" },
  "shape" : "VM.Standard.E4.Flex",
  "shapeConfig" : { "memoryInGBs" : 16.0, "ocpus" : 1.0 },
  "state" : "Running",
  "tenantId" : "ocid1.tenancy.oc1..bbbb",
  "timeCreated" : 1600381928581
}"#;

    const VNICS: &str = r#"[ {
  "vnicId" : "ocid1.vnic.oc1.eu-frankfurt-1.cccc",
  "privateIp" : "10.0.3.6",
  "vlanTag" : 11,
  "macAddr" : "00:00:00:00:00:01",
  "virtualRouterIp" : "10.0.3.1",
  "subnetCidrBlock" : "10.0.3.0/24"
}, { "privateIp" : "10.0.4.3" } ]"#;

    #[test]
    fn answers() {
        let metadata = metadata(&CLOUD, &[("/opc/v2/instance/", INSTANCE), ("/opc/v2/vnics/", VNICS)]);
        assert_eq!(
            labels(&metadata),
            [
                "ocid1.tenancy.oc1..bbbb",
                "ocid1.instance.oc1.eu-frankfurt-1.abtheljr",
                "VM.Standard.E4.Flex",
                "",
                "eu-frankfurt-1",
                "eu-frankfurt-1-ad-2",
                "",
                "10.0.3.6",
                ""
            ]
        );
        let mut odd = Metadata::default();
        let document = INSTANCE.replace("-AD-2", "").replace("VM.Standard", "VM Standard");
        assert!(answer(&CLOUD, "/opc/v2/instance/", document.as_bytes(), &mut odd));
        assert_eq!((&*odd.zone, &*odd.instance_type), ("", ""));
    }
}
