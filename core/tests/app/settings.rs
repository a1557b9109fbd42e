//! The table of settings, and what repeats it for people and platforms.

use std::collections::BTreeSet;

use kubeagents_core::settings::{
    CLIENT_SETTINGS, ClientValues, Host, SETTINGS, Setting, Texts, Unset, Values,
};

const HOSTS: [Host; 3] = [Host::Native, Host::Spin, Host::Wasmcloud];

fn of(host: Host) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.is_on(host))
}

#[test]
fn every_default_keeps_its_settings_rule() {
    for host in HOSTS {
        assert!(Values::read(host, Texts::new()).is_ok());
    }
    assert!(ClientValues::read(Host::Native, Texts::new()).is_ok());
}

#[test]
fn an_empty_text_counts_as_absent() {
    let empty = SETTINGS
        .iter()
        .map(|setting| (setting.variable, String::new()));
    let values = Values::read(Host::Native, empty.collect()).ok().unwrap();
    assert_eq!(values.port, 8080);
    assert!(!values.is_set("PORT"));
    let texts = Texts::from([("PORT", "1".to_owned())]);
    let values = Values::read(Host::Native, texts).ok().unwrap();
    assert_eq!(values.port, 1);
    assert!(values.is_set("PORT"));
}

#[test]
fn no_setting_stands_twice() {
    for table in [SETTINGS, CLIENT_SETTINGS] {
        let names: BTreeSet<_> = table.iter().map(|setting| setting.variable).collect();
        assert_eq!(names.len(), table.len());
    }
}

#[test]
fn a_signing_secret_is_at_least_32_bytes() {
    let read = |secret: &str| {
        let texts = Texts::from([("JWT_SECRET", secret.to_owned())]);
        let error = Values::read(Host::Native, texts).err();
        error.map(|error| error.to_string())
    };
    let refusal = "JWT_SECRET must be at least 32 bytes".to_owned();
    assert_eq!(read(&"x".repeat(31)), Some(refusal));
    assert_eq!(read(&"x".repeat(32)), None);
}

/// What the text of one setting comes to.
fn read<T>(variable: &'static str, text: &str, value: impl Fn(Values) -> T) -> Result<T, String> {
    let texts = Texts::from([(variable, text.to_owned())]);
    let values = Values::read(Host::Native, texts);
    values.map(value).map_err(|error| error.to_string())
}

#[test]
fn the_scheme_of_a_database_is_known_or_named() {
    let read = |url| read("DATABASE_URL", url, |_| ()).err();
    for url in [
        "postgres://u:p@h/d",
        "postgresql://h/d",
        "postgres:///d?host=/run/pg",
    ] {
        assert_eq!(read(url), None, "{url}");
    }
    for (url, scheme) in [
        ("postgress://u:secret@h/d", "postgress:"),
        ("mysql://u:secret@h/d", "mysql:"),
    ] {
        let message = read(url).unwrap();
        assert!(
            message.starts_with("DATABASE_URL must be an address"),
            "{message}"
        );
        assert!(message.ends_with(&format!(", not {scheme}…")), "{message}");
    }
    for url in ["nonsense", "secret:5432/d", "secret pass://h/d"] {
        let message = read(url).unwrap();
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_password_in_a_database_url_is_encoded_or_the_url_refused() {
    // Each would be taken for host, port and database, and the log would show a piece.
    for url in [
        "postgres://u:12/secret@h/d",
        "postgres://u:12#secret@h/d",
        "postgres://u:12?secret@h/d",
    ] {
        let message = read("DATABASE_URL", url, |_| ()).unwrap_err();
        assert!(message.contains("percent-encoding"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn addresses_are_normalised_or_refused() {
    let base = |text| read("APP_BASE_URL", text, |values| values.app_base_url.unwrap());
    for (text, url) in [
        (" https://App.example.com/ ", "https://app.example.com"),
        ("https://example.com/a b/", "https://example.com/a%20b"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://example.com/#", "https://example.com/#"),
    ] {
        assert_eq!(base(text).as_deref(), Ok(url));
    }
    assert_eq!(
        base("https://example.com/?a=b").unwrap_err(),
        "APP_BASE_URL must be a URL without a query, not \"https://example.com/?a=b\""
    );
    let hook = read(
        "NOTIFICATION_WEBHOOK_URL",
        " https://bücher.example/hook\n",
        |values| values.notification_webhook_url,
    );
    let url = "https://xn--bcher-kva.example/hook".to_owned();
    assert_eq!(hook, Ok(Some(url)));

    let server = |text: &str| {
        let texts = Texts::from([("KUBEAGENTS_SERVER_URL", text.to_owned())]);
        let values = ClientValues::read(Host::Native, texts);
        values
            .map(|values| values.server_url)
            .map_err(|error| error.to_string())
    };
    for (text, url) in [
        ("http://localhost:8080 ", "http://localhost:8080"),
        (
            "https://bücher.example/agents/",
            "https://xn--bcher-kva.example/agents",
        ),
    ] {
        assert_eq!(server(text).as_deref(), Ok(url));
    }
    for (text, rule) in [
        (
            "http://localhost:8080/mcp",
            "must be the server's address, without /mcp",
        ),
        (
            "http://localhost:8080/webhook/status/",
            "must be the server's address, without /webhook/status",
        ),
        ("http://localhost:8080/?x", "must be a URL without a query"),
        (
            "http://localhost:8080/#x",
            "must be a URL without a fragment",
        ),
        (
            "localhost:8080",
            "must be a URL that starts with http:// or https://",
        ),
    ] {
        let message = format!("KUBEAGENTS_SERVER_URL {rule}, not {text:?}");
        assert_eq!(server(text), Err(message));
    }
    // An address may hold a password, and one that does is not repeated.
    let message = server("http://user:se@cret@localhost:8080").unwrap_err();
    assert_eq!(
        message,
        "KUBEAGENTS_SERVER_URL must be a URL without user and password"
    );
    let message = base("ftp://user:se@cret@localhost:8080").unwrap_err();
    assert!(!message.contains("cret"), "{message}");
}

#[test]
fn a_secret_that_is_refused_is_not_repeated() {
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let texts = Texts::from([(setting.variable, "no: secret!".to_owned())]);
        if let Err(error) = Values::read(Host::Native, texts) {
            let message = error.to_string();
            assert!(!message.contains("secret!"), "{message}");
        }
    }
}

/// The declaration of a variable as `spin.toml` has it.
fn declaration(setting: &Setting) -> String {
    let (default, comment) = match setting.unset {
        Unset::Value(text) => (text, setting.help()),
        Unset::Described(text) => ("", format!("{} Unset: {text}.", setting.help())),
        Unset::Nothing => ("", setting.help()),
    };
    let secret = if setting.secret {
        ", secret = true"
    } else {
        ""
    };
    let name = setting.name(Host::Spin);
    format!("# {comment}\n{name} = {{ default = \"{default}\"{secret} }}\n")
}

/// A section of TOML, with each run of comments on one line.
fn section(text: &str, header: &str) -> String {
    let (_, rest) = text.split_once(&format!("[{header}]\n")).unwrap();
    let lines = rest.split("\n\n").next().unwrap().lines();
    let mut joined = String::new();
    let mut in_comment = false;
    for line in lines {
        let continued = line.strip_prefix("# ").filter(|_| in_comment);
        match continued {
            Some(comment) => {
                joined.pop();
                joined = joined + " " + comment;
            }
            None => joined += line,
        }
        joined.push('\n');
        in_comment = line.starts_with('#');
    }
    joined
}

#[test]
fn the_spin_manifest_has_every_variable_with_its_default_and_passes_it_on() {
    let manifest = include_str!("../../../spin.toml");
    let declared: String = of(Host::Spin).map(declaration).collect();
    assert_eq!(section(manifest, "variables"), declared);
    let passed_on = |setting: &Setting| {
        let name = setting.name(Host::Spin);
        format!("{name} = \"{{{{ {name} }}}}\"\n")
    };
    let passed_on: String = of(Host::Spin).map(passed_on).collect();
    assert_eq!(
        section(manifest, "component.kubeagents.variables"),
        passed_on
    );
}
