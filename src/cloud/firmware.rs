//! What the firmware says of the machine: DMI, which the cloud's hypervisor fills in (`/sys/devices/virtual/dmi/id`,
//! drivers/firmware/dmi-id.c), and Xen's id of it (`/sys/hypervisor/uuid`).

use crate::host::{Host, read_bounded};

/// The words of the firmware.
pub struct Firmware<'a>(&'a dyn Fn(&str) -> String);

impl Firmware<'_> {
    /// Calls `action` with a host's.
    pub fn of<T>(host: &Host, action: impl FnOnce(&Firmware<'_>) -> T) -> T {
        let read = |path: &str| {
            let data = read_bounded(&host.sys(path), 4096).unwrap_or_default();
            String::from_utf8_lossy(&data).trim().to_owned()
        };
        action(&Firmware(&read))
    }

    /// A file of DMI such as `sys_vendor`; empty where there is none, as on most boards without UEFI or BIOS.
    pub fn dmi(&self, file: &str) -> String {
        (self.0)(&["devices/virtual/dmi/id/", file].concat())
    }

    /// Whether a file of DMI says just this.
    pub fn is(&self, file: &str, text: &str) -> bool {
        self.dmi(file) == text
    }

    /// Xen's id of the guest.
    pub fn xen(&self) -> String {
        (self.0)("hypervisor/uuid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{CLOUDS, detect};

    /// The clouds that recognise themselves.
    fn clouds(fields: &[(&str, &str)]) -> Vec<&'static str> {
        let read = |path: &str| {
            let name = path.rsplit('/').next().unwrap();
            let name = if name == "uuid" { "hypervisor_uuid" } else { name };
            fields
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(String::new(), |(_, text)| (*text).to_owned())
        };
        let firmware = Firmware(&read);
        let here = CLOUDS.iter().filter(|cloud| (cloud.is_here)(&firmware));
        here.map(|cloud| cloud.provider).collect()
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
            assert_eq!(clouds(fields), [*provider]);
        }
        for cloud in CLOUDS {
            assert!(INSTANCES.iter().any(|(provider, _)| *provider == cloud.provider), "{}", cloud.provider);
        }
        for fields in STRANGERS {
            assert!(clouds(fields).is_empty(), "{fields:?}");
        }
        assert!(detect(&Host::new(std::path::Path::new("/nonexistent"), None)).is_none());
    }
}
