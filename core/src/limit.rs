//! The limits that something may be refused for.

/// Makes the enumeration and its names.
macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal;)*) => {
        /// A limit that a request, or something of it, may be refused for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            /// Every limit.
            pub const ALL: &[Self] = &[$(Self::$limit),*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$limit => $name,)*
                }
            }
        }
    };
}

limits! {
    /// Tries at passwords: `LOGIN_ATTEMPTS_PER_MINUTE`.
    Logins = "logins";
    /// New accounts: `REGISTRATIONS_PER_HOUR`.
    Registrations = "registrations";
    /// Mails with links: `VERIFICATION_MAILS_PER_HOUR`.
    Mails = "mails";
    /// Tests of a workspace's channels in a minute.
    ChannelTests = "channel_tests";
    /// Lists of a workspace that are read at once: `READS_IN_FLIGHT`.
    Reads = "reads";
    /// Memory for request bodies under way.
    Bodies = "request_bodies";
    /// Memory for answers that their clients have not read.
    Answers = "unread_answers";
    /// Clients that are connected at once.
    Connections = "connections";
    /// Passwords that wait to be hashed.
    Passwords = "passwords";
    /// Readers of live events.
    EventStreams = "event_streams";
    /// Valid API keys of an account.
    ApiKeys = "api_keys";
    /// Channels of a workspace.
    Channels = "channels";
    /// Reports of a workspace: `REPORTS_PER_MINUTE`.
    Reports = "reports";
    /// Agents of a workspace: `MAX_AGENTS`.
    Agents = "agents";
    /// Sessions of an agent: `MAX_SESSIONS_PER_AGENT`.
    Sessions = "sessions";
    /// Memory for the state: `MAX_MEMORY_MIB`.
    Memory = "memory";
}
