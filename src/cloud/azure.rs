//! Microsoft Azure (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>).

use std::time::Duration;

use super::document::members;
use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Notice, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Azure",
    // Its vendor is that of Hyper-V and of laptops too; this tag is on no machine but Azure's.
    is_here: |firmware| firmware.is("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
    address: LINK_LOCAL,
    host: None,
    header: "Metadata: true",
    token: None,
    requests: &[Request {
        // From 2021 on the document has the user's data in it, up to 64 KiB of them.
        path: "/metadata/instance?api-version=2020-09-01&format=json",
        form: Form::Json(&[
            ("compute.subscriptionId", Field::AccountId),
            ("compute.vmId", Field::InstanceId),
            ("compute.vmSize", Field::InstanceType),
            ("compute.priority", Field::LifeCycle),
            ("compute.location", Field::Region),
            ("compute.zone", Field::Zone),
            ("compute.name", Field::Name),
            ("network.interface.0.ipv4.ipAddress.0.privateIpAddress", Field::LocalIpv4),
            ("network.interface.0.ipv4.ipAddress.0.publicIpAddress", Field::PublicIpv4),
        ]),
        is_required: true,
    }],
    settle,
    // At least thirty seconds in front of the end. The first answer may take two minutes, while the feature is switched on.
    notice: Some(Notice {
        path: "/metadata/scheduledevents?api-version=2020-07-01",
        life_cycle: "spot",
        interval: Duration::from_secs(10),
        parse: parse_notice,
    }),
};

fn settle(metadata: &mut Metadata) {
    let word = match metadata.get(Field::LifeCycle) {
        "Regular" => "on-demand",
        // What spot was called before.
        "Spot" | "Low" => "spot",
        _ => return,
    };
    metadata.set(Field::LifeCycle, word);
}

/// The events of all machines of a scale set or availability set are in one list.
fn parse_notice(body: &[u8], metadata: &Metadata) -> Option<bool> {
    let name = metadata.get(Field::Name);
    let (mut preemptions, mut ours) = (Vec::new(), Vec::new());
    let is_whole = members(body, &mut |path, value| {
        let Some((event, field)) = path.strip_prefix("Events.").and_then(|rest| rest.split_once('.')) else {
            return;
        };
        if field == "EventType" && value == "Preempt" {
            preemptions.push(event.to_owned());
        } else if field.starts_with("Resources.") && value.eq_ignore_ascii_case(name) {
            ours.push(event.to_owned());
        }
    });
    is_whole.then(|| preemptions.iter().any(|event| name.is_empty() || ours.contains(event)))
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;
    use crate::procfs::fuzz::hammer;

    const PATH: &str = "/metadata/instance?api-version=2020-09-01&format=json";

    const INSTANCE: &str = r#"{"compute":{"azEnvironment":"AzurePublicCloud","customData":"","evictionPolicy":"Deallocate",
"isHostCompatibilityLayerVm":"false","location":"westeurope","name":"workers_3","offer":"0001-com-ubuntu-server-jammy",
"osProfile":{"adminUsername":"admin","computerName":"workers3"},"osType":"Linux","placementGroupId":"",
"plan":{"name":"","product":"","publisher":""},"platformFaultDomain":"0","priority":"Spot","provider":"Microsoft.Compute",
"publicKeys":[{"keyData":"ssh-rsa AAAA","path":"/home/admin/.ssh/authorized_keys"}],"resourceGroupName":"rg",
"storageProfile":{"dataDisks":[],"osDisk":{"diskSizeGB":"30","name":"disk"}},"subscriptionId":"8d10da13-8125-4ba9-a717-bf7490507b3d",
"tags":"","tagsList":[],"version":"22.04.202304","vmId":"13f56399-bd52-4150-9748-7190aae1ff21","vmScaleSetName":"workers",
"vmSize":"Standard_D2s_v3","zone":"1"},"network":{"interface":[{"ipv4":{"ipAddress":[{"privateIpAddress":"10.144.133.132",
"publicIpAddress":"5.6.7.8"},{"privateIpAddress":"10.144.133.133","publicIpAddress":""}],"subnet":[{"address":"10.144.133.128",
"prefix":"26"}]},"ipv6":{"ipAddress":[]},"macAddress":"0011AAFFBB22"}]}}"#;

    const EVENTS: &str = r#"{"DocumentIncarnation":2,"Events":[
{"EventId":"A","EventStatus":"Scheduled","EventType":"Freeze","ResourceType":"VirtualMachine","Resources":["workers_3"]},
{"EventId":"B","EventStatus":"Scheduled","EventType":"Preempt","ResourceType":"VirtualMachine","Resources":["workers_1","workers_2"]}]}"#;

    #[test]
    fn answers() {
        let metadata = metadata(&CLOUD, &[(PATH, INSTANCE)]);
        assert_eq!(
            labels(&metadata),
            [
                "8d10da13-8125-4ba9-a717-bf7490507b3d",
                "13f56399-bd52-4150-9748-7190aae1ff21",
                "Standard_D2s_v3",
                "spot",
                "westeurope",
                "1",
                "",
                "10.144.133.132",
                "5.6.7.8"
            ]
        );
        let mut regular = Metadata::default();
        let document = INSTANCE.replace("\"Spot\"", "\"Regular\"").replace("\"1\"", "\"\"");
        assert!(answer(&CLOUD, PATH, document.as_bytes(), &mut regular));
        assert_eq!((regular.get(Field::LifeCycle), regular.get(Field::Zone)), ("on-demand", ""));
        assert!(!answer(&CLOUD, PATH, b"{\"error\":\"Bad request\"}", &mut Metadata::default()));
    }

    #[test]
    fn notices() {
        let named = |name: &str| {
            let mut metadata = Metadata::default();
            metadata.set(Field::Name, name);
            metadata
        };
        let parse = |name: &str| parse_notice(EVENTS.as_bytes(), &named(name));
        assert_eq!(
            [parse("workers_3"), parse("WORKERS_2"), parse("")],
            [Some(false), Some(true), Some(true)]
        );
        assert_eq!(parse_notice(br#"{"DocumentIncarnation":1,"Events":[]}"#, &named("a")), Some(false));
        assert_eq!(parse_notice(b"<html>", &named("a")), None);
        hammer(EVENTS.as_bytes(), |body| {
            parse_notice(body, &named("workers_2"));
        });
    }
}
