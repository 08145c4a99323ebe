//! What the firmware says of the machine: DMI, which the cloud's hypervisor fills in (`/sys/devices/virtual/dmi/id`,
//! drivers/firmware/dmi-id.c), and Xen's id of it (`/sys/hypervisor/uuid`).

use crate::host::{Host, read_bounded};

/// Fields that tell clouds apart; empty where there are none, as on most boards without UEFI or BIOS.
#[derive(Debug, Clone, Default)]
pub struct Firmware {
    /// Who made the system.
    pub sys_vendor: String,
    /// What it is called.
    pub product_name: String,
    /// Who made the board.
    pub board_vendor: String,
    /// Who made the firmware.
    pub bios_vendor: String,
    /// Which version of the firmware it is.
    pub bios_version: String,
    /// Who made the chassis.
    pub chassis_vendor: String,
    /// The owner's name for the chassis.
    pub chassis_asset_tag: String,
    /// Xen's id of the guest.
    pub hypervisor_uuid: String,
}

impl Firmware {
    /// Reads what there is.
    pub fn read(host: &Host) -> Firmware {
        let text = |path: &str| {
            let data = read_bounded(&host.sys(path), 4096).unwrap_or_default();
            String::from_utf8_lossy(&data).trim().to_owned()
        };
        let dmi = |file: &str| text(&format!("devices/virtual/dmi/id/{file}"));
        Firmware {
            sys_vendor: dmi("sys_vendor"),
            product_name: dmi("product_name"),
            board_vendor: dmi("board_vendor"),
            bios_vendor: dmi("bios_vendor"),
            bios_version: dmi("bios_version"),
            chassis_vendor: dmi("chassis_vendor"),
            chassis_asset_tag: dmi("chassis_asset_tag"),
            hypervisor_uuid: text("hypervisor/uuid"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{CLOUDS, detect};

    fn firmware(fields: &[(&str, &str)]) -> Firmware {
        let mut firmware = Firmware::default();
        for (name, value) in fields {
            let field = match *name {
                "sys_vendor" => &mut firmware.sys_vendor,
                "product_name" => &mut firmware.product_name,
                "board_vendor" => &mut firmware.board_vendor,
                "bios_vendor" => &mut firmware.bios_vendor,
                "bios_version" => &mut firmware.bios_version,
                "chassis_vendor" => &mut firmware.chassis_vendor,
                "chassis_asset_tag" => &mut firmware.chassis_asset_tag,
                "hypervisor_uuid" => &mut firmware.hypervisor_uuid,
                _ => panic!("{name}"),
            };
            (*value).clone_into(field);
        }
        firmware
    }

    #[rustfmt::skip]
    const INSTANCES: &[(&str, &[(&str, &str)])] = &[
        ("AWS", &[("sys_vendor", "Amazon EC2"), ("board_vendor", "Amazon EC2"), ("bios_vendor", "Amazon EC2"), ("product_name", "m5.large")]),
        ("AWS", &[("sys_vendor", "Xen"), ("bios_version", "4.11.amazon"), ("hypervisor_uuid", "ec2e1916-9099-7caf-fd21-012345abcdef")]),
        // Paravirtual guests have no DMI.
        ("AWS", &[("hypervisor_uuid", "EC2e1916-9099-7caf-fd21-012345abcdef")]),
        ("GCP", &[("sys_vendor", "Google"), ("product_name", "Google Compute Engine"), ("board_vendor", "Google")]),
        ("Azure", &[("sys_vendor", "Microsoft Corporation"), ("board_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine"), ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")]),
        ("Hetzner", &[("sys_vendor", "Hetzner"), ("product_name", "vServer")]),
        ("DigitalOcean", &[("sys_vendor", "DigitalOcean"), ("board_vendor", "DigitalOcean"), ("product_name", "Droplet")]),
        ("Alibaba", &[("sys_vendor", "Alibaba Cloud"), ("product_name", "Alibaba Cloud ECS")]),
        ("Scaleway", &[("sys_vendor", "Scaleway"), ("product_name", "SCW-DEV1-S")]),
        ("Oracle", &[("sys_vendor", "QEMU"), ("chassis_asset_tag", "OracleCloud.com")]),
        ("IBM", &[("sys_vendor", "QEMU"), ("chassis_vendor", "IBM:Cloud Compute Server 1.0:bx2-2x8")]),
    ];

    /// What looks a little like a cloud and is none.
    #[rustfmt::skip]
    const STRANGERS: &[&[(&str, &str)]] = &[
        &[],
        &[("sys_vendor", "QEMU"), ("bios_vendor", "SeaBIOS")],
        &[("sys_vendor", "Dell Inc."), ("chassis_asset_tag", "169.254.169.254")],
        // Hyper-V at home, and a laptop.
        &[("sys_vendor", "Microsoft Corporation"), ("board_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine")],
        // A Chromebook.
        &[("sys_vendor", "Google"), ("board_vendor", "Google"), ("product_name", "Eve")],
        // One of 4,096 Xen guests elsewhere.
        &[("sys_vendor", "Xen"), ("bios_version", "4.14.3"), ("hypervisor_uuid", "ec2e1916-9099-7caf-fd21-012345abcdef")],
        &[("sys_vendor", "IBM"), ("chassis_vendor", "IBM")],
    ];

    #[test]
    fn instances_are_recognised_and_strangers_are_not() {
        for (provider, fields) in INSTANCES {
            let firmware = firmware(fields);
            assert_eq!(detect(&firmware).map(|cloud| cloud.provider), Some(*provider));
            assert_eq!(CLOUDS.iter().filter(|cloud| (cloud.is_here)(&firmware)).count(), 1, "{provider}");
        }
        for cloud in CLOUDS {
            assert!(INSTANCES.iter().any(|(provider, _)| *provider == cloud.provider), "{}", cloud.provider);
        }
        for fields in STRANGERS {
            assert!(detect(&firmware(fields)).is_none(), "{fields:?}");
        }
    }
}
