//! `errno`: names of error numbers.

use super::words::{Words, room};
use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "errno",
    about: "an error number, not negated, to its name (`EPERM`), or `unknown:N`",
    takes: Takes::Decimal,
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Errno>,
};

/// asm-generic/errno.h, which x86 and ARM share, from 0 on. Of two names of one number the one that the peer prints.
const TEXT: &str = "- EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK \
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE \
    EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG \
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD \
    ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT \
    EPROTONOSUPPORT ESOCKTNOSUPPORT ENOTSUP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH \
    ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN \
    EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE \
    ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

static NAMES: Words<{ room(TEXT) }> = Words::new(TEXT);

#[derive(Default)]
struct Errno;

impl Decoder for Errno {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let number =
            input::digits(input).ok_or_else(|| format!("error parsing {:?} as uint", input::shown(input)))?;
        match NAMES.get(number) {
            Some(name) => append(out, name.as_bytes()),
            None => {
                append(out, b"unknown:");
                input::push_decimal(out, number);
            }
        }
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn names() {
        let mut bed = Bed::new();
        for (number, name) in [
            ("1", "EPERM"),
            ("2", "ENOENT"),
            ("11", "EAGAIN"),
            ("35", "EDEADLK"),
            ("95", "ENOTSUP"),
            ("110", "ETIMEDOUT"),
            ("133", "EHWPOISON"),
            ("0", "unknown:0"),
            ("41", "unknown:41"),
            ("58", "unknown:58"),
            ("134", "unknown:134"),
            ("524", "unknown:524"),
            ("18446744073709551615", "unknown:18446744073709551615"),
        ] {
            assert_eq!(bed.decode(&SPEC, number).unwrap(), name);
        }
        // libc has the same numbers.
        for (number, name) in
            [(libc::ENOSYS, "ENOSYS"), (libc::ERESTART, "ERESTART"), (libc::ESTALE, "ESTALE")]
        {
            assert_eq!(bed.decode(&SPEC, number.to_string()).unwrap(), name);
        }
        assert_eq!((0..200).filter(|number| NAMES.get(*number).is_some()).count(), 131);
    }

    #[test]
    fn what_is_no_number() {
        let mut bed = Bed::new();
        assert_eq!(bed.decode(&SPEC, "-1"), Err("error parsing \"-1\" as uint".to_owned()));
        assert_eq!(bed.decode(&SPEC, ""), Err("error parsing \"\" as uint".to_owned()));
        assert_eq!(bed.decode(&SPEC, b"\xff"), Err("error parsing \"\u{fffd}\" as uint".to_owned()));
    }
}
