//! Who works in the shared workspace.

use super::InvalidSetting;
use crate::email::is_email;
use crate::email_key;

/// Accounts, by their addresses or the domains of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(Vec<String>);

impl Members {
    /// Reads a comma-separated list of e-mail addresses and `@domain`s.
    ///
    /// # Errors
    /// [`InvalidSetting`] for an entry that is neither, and for an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let entries = text.split(',').map(str::trim);
        let member = |entry: &str| {
            let is_domain = entry.starts_with('@') && is_email(&format!("a{entry}"));
            (is_domain || is_email(entry)).then(|| email_key(entry))
        };
        let members = entries
            .filter(|entry| !entry.is_empty())
            .map(member)
            .collect::<Option<Vec<_>>>();
        members
            .filter(|members| !members.is_empty())
            .map(Self)
            .ok_or_else(|| {
                "must be e-mail addresses such as ann@example.com or domains such as \
                 @example.com, with commas between them"
                    .into()
            })
    }

    /// Checks whether an address is one of these or at one of their domains.
    pub fn contains(&self, email: &str) -> bool {
        let email = email_key(email);
        let domain = email.rfind('@').map(|at| &email[at..]);
        self.0
            .iter()
            .any(|member| *member == email || Some(member.as_str()) == domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_address_or_domain() {
        let members = Members::parse("Ann@Example.com, @Team.example.org ,").unwrap();
        for (email, is_member) in [
            ("ann@example.com", true),
            ("ANN@EXAMPLE.COM", true),
            ("bob@team.example.org", true),
            ("Bob@TEAM.Example.ORG", true),
            ("bob@example.com", false),
            ("joann@example.com", false),
            ("ann@example.com.evil.io", false),
            ("bob@sub.team.example.org", false),
            ("bob@evilteam.example.org", false),
            ("bob@example.org", false),
            ("@team.example.org", true),
            ("", false),
        ] {
            assert_eq!(members.contains(email), is_member, "{email}");
        }
        for text in [
            "",
            " , ",
            "example.com",
            "@",
            "@example",
            "@*.example.com",
            "ann@@example.com",
            "ann@example.com bob@example.com",
            "Ann <ann@example.com>",
        ] {
            assert!(Members::parse(text).is_err(), "{text}");
        }
    }
}
