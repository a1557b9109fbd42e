//! E-mail addresses.

/// The form in which addresses are compared: two addresses that differ in case are one.
pub fn email_key(email: &str) -> String {
    crate::search_key(email)
}

/// What [`is_email`] takes, as JSON Schema writes it.
pub(crate) const PATTERN: &str = concat!(
    r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@",
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,}$"
);

/// Whether a text has the form of an address that mail on the internet reaches: `local@host.tld` in
/// ASCII, the form that the Go server takes. Whether anyone reads it, the verification mail tells.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let Some((host, tld)) = domain.rsplit_once('.') else {
        return false;
    };
    let are_parts = |text: &str, allowed: fn(&str) -> bool| text.split('.').all(allowed);
    are_parts(local, is_local_part)
        && are_parts(host, is_host_label)
        && tld.len() >= 2
        && tld.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_local_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_%+-".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_host_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(allowed)
}
