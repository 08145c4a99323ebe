//! `inet_ip`: addresses of IPv4 and IPv6, written as RFC 5952 says.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "inet_ip",
    about: "an IPv4 or IPv6 address in network order; an IPv4 address inside IPv6 as IPv4",
    takes: Takes::Sizes(&[4, 16]),
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<InetIp>,
};

#[derive(Default)]
struct InetIp;

impl Decoder for InetIp {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        match *input {
            [] => out.extend_from_slice(b"<nil>"),
            [a, b, c, d] | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => v4(out, [a, b, c, d]),
            _ => match <[u8; 16]>::try_from(input) {
                Ok(bytes) => v6(out, bytes),
                // What Go prints for an address of no known length.
                Err(_) => {
                    out.push(b'?');
                    input::push_hex(out, input);
                }
            },
        }
        Ok(Answer::Text)
    }
}

fn v4(out: &mut Vec<u8>, bytes: [u8; 4]) {
    for (at, byte) in bytes.into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        let (hundreds, tens) = (byte / 100, byte / 10 % 10);
        if hundreds > 0 {
            out.push(b'0' + hundreds);
        }
        if hundreds > 0 || tens > 0 {
            out.push(b'0' + tens);
        }
        out.push(b'0' + byte % 10);
    }
}

fn v6(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let groups: [u16; 8] = std::array::from_fn(|at| u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]));
    // The longest run of zeros, of at least two; the first one of equals.
    let (mut start, mut end) = (8, 8);
    let mut at = 0;
    while at < 8 {
        let run = groups[at..].iter().take_while(|group| **group == 0).count();
        if run >= 2 && (start == 8 || run > end - start) {
            (start, end) = (at, at + run);
        }
        at += run.max(1);
    }
    let mut text = [0u8; 40];
    let mut length = 0;
    let mut push = |byte: u8| {
        text[length] = byte;
        length += 1;
    };
    for (at, &group) in groups.iter().enumerate() {
        if at == start {
            push(b':');
            push(b':');
        }
        if (start..end).contains(&at) {
            continue;
        }
        if at > 0 && at != end {
            push(b':');
        }
        let mut place = (15 - (group | 1).leading_zeros()) & !3;
        loop {
            push(input::HEX[usize::from(group >> place) & 15]);
            if place == 0 {
                break;
            }
            place -= 4;
        }
    }
    append(out, &text[..length]);
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn addresses() {
        let mut bed = Bed::new();
        let mut address = |bytes: &[u8]| bed.decode(&SPEC, bytes).unwrap();
        assert_eq!(address(&[127, 0, 0, 1]), "127.0.0.1");
        assert_eq!(address(&[255, 10, 100, 0]), "255.10.100.0");
        for (text, printed) in [
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("::1.2.3.4", "::102:304"),
            ("::1", "::1"),
            ("::", "::"),
            ("2001:DB8::", "2001:db8::"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:0:2:2:0:0:3", "1::2:2:0:0:3"),
            ("fe80::1:0", "fe80::1:0"),
        ] {
            assert_eq!(address(&text.parse::<Ipv6Addr>().unwrap().octets()), printed);
        }
        assert_eq!(address(b""), "<nil>");
        assert_eq!(address(&[1, 2, 0xff]), "?0102ff");
        assert_eq!(address(&[0; 17]), format!("?{}", "00".repeat(17)));
    }

    #[test]
    fn the_standard_library_agrees() {
        let mut bed = Bed::new();
        let mut random = crate::procfs::fuzz::numbers(42);
        for _ in 0..10_000 {
            let bytes: [u8; 16] =
                std::array::from_fn(|_| if random().is_multiple_of(3) { random() as u8 } else { 0 });
            let address = Ipv6Addr::from(bytes);
            let wanted = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4).to_string();
            assert_eq!(bed.decode(&SPEC, bytes).unwrap(), wanted);
            let bytes = <[u8; 4]>::try_from(&bytes[..4]).unwrap();
            assert_eq!(bed.decode(&SPEC, bytes).unwrap(), IpAddr::from(bytes).to_string());
        }
    }
}
