//! Oracle Cloud Infrastructure (<https://docs.oracle.com/iaas/Content/Compute/Tasks/gettingmetadata.htm>).

use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Oracle",
    is_here: |firmware| firmware.is("chassis_asset_tag", "OracleCloud.com"),
    address: LINK_LOCAL,
    host: None,
    header: "Authorization: Bearer Oracle",
    token: None,
    requests: &[
        Request {
            path: "/opc/v2/instance/",
            form: Form::Json(&[
                ("id", Field::InstanceId),
                ("tenantId", Field::AccountId),
                ("shape", Field::InstanceType),
                ("canonicalRegionName", Field::Region),
                ("availabilityDomain", Field::Zone),
            ]),
            is_required: true,
        },
        // The first is the primary one. Public addresses are unknown here.
        Request {
            path: "/opc/v2/vnics/",
            form: Form::Json(&[("0.privateIp", Field::LocalIpv4)]),
            is_required: false,
        },
    ],
    settle,
    notice: None,
};

/// `Uocm:EU-FRANKFURT-1-AD-2` is `eu-frankfurt-1-ad-2`: what is in front of the number differs from tenancy to tenancy.
fn settle(metadata: &mut Metadata) {
    let domain = metadata.get(Field::Zone);
    if let Some((_, number)) = domain.rsplit_once('-').filter(|_| domain.contains(':')) {
        let zone = [metadata.get(Field::Region), "-ad-", number].concat();
        metadata.set(Field::Zone, &zone.replace(':', ""));
    }
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
        let document = INSTANCE.replace("VM.Standard", "VM Standard");
        assert!(answer(&CLOUD, "/opc/v2/instance/", document.as_bytes(), &mut odd));
        assert_eq!(odd.get(Field::InstanceType), "");
    }
}
