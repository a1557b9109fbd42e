//! `kubeagents setup`: makes the coding agents of this machine report by themselves.
//!
//! Each agent has a file here that says where its configuration is and what ours in it looks like.
//! Whatever else stands there stays: comments, order, layout, other people's hooks.

mod claude_code;
mod codex;
mod copilot;
mod cursor;
mod deepagents;
mod devin;
mod droid;
mod file;
mod folders;
mod gemini;
mod goose;
mod grok;
mod json;
mod kimi;
mod opencode;
mod place;
mod qwen;
mod toml;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;
use kubeagents_core::settings::{ClientValues, Host, Texts};

use crate::client::config::ClientConfig;
use crate::client::folders::is_foreign;
use crate::client::{NOT_DONE, NOT_UNDERSTOOD, surroundings};
use crate::config::ConfigError;
use file::{Change, Edit, Refusal};
use folders::Folders;
use json::Json;
use place::Folder;

pub(crate) use place::Place;

/// What `kubeagents setup` is asked to do.
struct Request {
    /// These tools, found or not; without any, those that are found.
    tools: Vec<Tool>,
    /// Whether what is ours goes.
    uninstall: bool,
    /// Whether the changes are only shown.
    dry_run: bool,
    /// Whether a repository's own files are changed rather than the user's.
    project: bool,
    /// Whether the status line is reported.
    statusline: bool,
    url: Option<String>,
    key: Option<String>,
    host: Option<String>,
}

/// What is to become of what is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Install,
    Remove,
}

/// A coding agent that can be set up.
pub(crate) struct Agent {
    pub(crate) tool: Tool,
    /// Its name for people.
    pub(crate) title: &'static str,
    /// Its programs.
    programs: &'static [&'static str],
    folder: Folder,
    /// Other files and folders that only it makes.
    others: fn(&Place) -> Vec<PathBuf>,
    plan: fn(&Place, Wish) -> Result<Plan, Refusal>,
    /// What is set up and has no effect yet.
    warnings: fn(&Place) -> Vec<Warning>,
}

/// What keeps hooks that are in place from having an effect.
pub(crate) struct Warning {
    pub(crate) problem: String,
    pub(crate) advice: String,
}

/// Every agent whose configuration's place is known.
pub(crate) const AGENTS: [Agent; 13] = [
    claude_code::AGENT,
    codex::AGENT,
    cursor::AGENT,
    gemini::AGENT,
    copilot::AGENT,
    opencode::AGENT,
    qwen::AGENT,
    droid::AGENT,
    kimi::AGENT,
    grok::AGENT,
    devin::AGENT,
    goose::AGENT,
    deepagents::AGENT,
];

/// What is to be done for an agent.
#[derive(Default)]
pub(crate) struct Plan {
    changes: Vec<Change>,
    /// What is worth knowing.
    notes: Vec<String>,
    /// What only a person can do, once something was set up.
    steps: Vec<&'static str>,
    /// Whether what is ours goes although it is asked for, since a plugin does the same.
    pub(crate) is_left_to_plugin: bool,
}

impl Plan {
    fn add(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Notes a server of our name in a file that is somebody else's.
    fn note_foreign_server(&mut self, path: &Path) {
        self.notes.push(format!(
            "{} has an MCP server named kubeagents already, which stays as it is",
            path.display()
        ));
    }

    /// Checks whether there is something to change.
    pub(crate) fn has_changes(&self) -> bool {
        self.changes.iter().any(Change::is_one)
    }
}

impl Agent {
    /// The agent of a tool; `None` where its configuration's place is not known.
    pub(crate) fn of(tool: Tool) -> Option<&'static Self> {
        AGENTS.iter().find(|agent| agent.tool == tool)
    }

    /// Checks whether the agent is on this machine: its program, or files that are not all of this
    /// command's making.
    pub(crate) fn is_installed(&self, place: &Place) -> bool {
        let place = &place.without_project();
        let mut programs = self.programs.iter();
        if programs.any(|name| place.program_in_path(name).is_some()) {
            return true;
        }
        let plan = self.plan(place, Wish::Remove);
        let changes = plan.iter().flat_map(|plan| &plan.changes);
        let ours = changes.filter(|change| change.is_ours_alone());
        let ours: Vec<&Path> = ours.map(|change| change.path.as_path()).collect();
        let mut places = (self.others)(place);
        places.push(place.folder(&self.folder));
        places.iter().any(|path| holds_other(path, &ours))
    }

    /// Checks whether something of ours is in its configuration.
    pub(crate) fn is_set_up(&self, place: &Place) -> bool {
        let removed = self.plan(place, Wish::Remove);
        removed.is_ok_and(|plan| plan.has_changes())
    }

    /// The programs that its hooks start as they are set up.
    pub(crate) fn programs_of_hooks(&self, plan: &Plan) -> BTreeSet<String> {
        let texts = plan.changes.iter().map(Change::text);
        texts
            .flat_map(|text| programs_of_hooks(text, self.tool.name()))
            .collect()
    }

    /// What keeps its hooks, which are in place, from having an effect.
    pub(crate) fn warnings(&self, place: &Place) -> Vec<Warning> {
        (self.warnings)(place)
    }

    /// Works out what is to be changed.
    ///
    /// # Errors
    /// [`Refusal`] for a file that cannot be read or understood.
    pub(crate) fn plan(&self, place: &Place, wish: Wish) -> Result<Plan, Refusal> {
        (self.plan)(place, wish)
    }
}

impl Place {
    /// The change of a JSON file of the agent's, of which a copy is kept where no repository does.
    fn json(
        &self,
        path: impl AsRef<Path>,
        wish: Wish,
        edit: &dyn Fn(&Json, Wish) -> Result<(), String>,
    ) -> Result<Change, Refusal> {
        self.text(path.as_ref(), json::BLANK, wish, &|text, wish| {
            let json = Json::parse(text)?;
            edit(&json, wish)?;
            Ok(json.text())
        })
    }

    fn text(
        &self,
        path: &Path,
        blank: &str,
        wish: Wish,
        edit: Edit<'_>,
    ) -> Result<Change, Refusal> {
        Change::plan(path.to_owned(), blank, wish, !self.is_project(), edit)
    }
}

/// Checks whether there is a file at a path or below it that is none of these.
fn holds_other(path: &Path, ours: &[&Path]) -> bool {
    if ours.contains(&path) {
        return false;
    }
    match fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .any(|entry| holds_other(&entry.path(), ours)),
        Err(error) => error.kind() == io::ErrorKind::NotADirectory,
    }
}

/// No other places, of agents that have one folder.
fn no_others(_: &Place) -> Vec<PathBuf> {
    Vec::new()
}

/// No warnings, of agents that show nothing of what keeps hooks from running.
fn no_warnings(_: &Place) -> Vec<Warning> {
    Vec::new()
}

/// A warning where settings of an agent in the form of Claude Code switch all hooks off.
fn disabled(path: &Path) -> Vec<Warning> {
    let text = file::read(path).ok().flatten();
    let settings = text.and_then(|text| Json::parse(&text).ok());
    let is_disabled = settings.is_some_and(|json| json.value()["disableAllHooks"] == true);
    let warning = is_disabled.then(|| Warning {
        problem: "disableAllHooks is true, so no hook runs".into(),
        advice: format!("remove it from {}", path.display()),
    });
    warning.into_iter().collect()
}

/// Checks whether a path is that of this program, wherever it is.
fn program_name(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name == "kubeagents")
}

/// Checks whether a command line runs `kubeagents hook` for a tool.
fn runs_hook(line: &str, tool: &str) -> bool {
    !programs_of_hooks(line, tool).is_empty()
}

/// The programs of this name that a text runs as a tool's hooks.
fn programs_of_hooks(text: &str, tool: &str) -> Vec<String> {
    let quotes = |c: char| matches!(c, '\'' | '"' | ';' | ')' | '(' | ',' | '}' | ']');
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| word.trim_matches(quotes))
        .collect();
    let calls = words.windows(3).filter(|words| {
        program_name(Path::new(words[0])) && words[1] == "hook" && words[2] == tool
    });
    calls.map(|words| words[0].to_owned()).collect()
}

/// A handler of hooks in the form of Claude Code, with these additional fields.
fn handler(command: String, more: &[(&str, CstInputValue)]) -> CstInputValue {
    let mut fields = vec![
        ("type".to_owned(), "command".into()),
        ("command".to_owned(), command.into()),
    ];
    fields.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    CstInputValue::Object(fields)
}

/// A group of hooks in the form of Claude Code, with one handler.
fn group(handler: CstInputValue) -> CstInputValue {
    CstInputValue::Object(vec![("hooks".into(), CstInputValue::Array(vec![handler]))])
}

/// Our server for Junie, which is the one agent without hooks that tell of its work.
const JUNIE: &str = r#"{"mcpServers": {"kubeagents": {"command": "kubeagents", "args": ["mcp"]}}}"#;

/// The arguments of our server of the Model Context Protocol: hooks report already, so it only reads.
const MCP: [&str; 2] = ["mcp", "--read-only"];

/// Checks whether arguments are those of our server, also in the form from before it only read.
fn runs_mcp(arguments: &[&str]) -> bool {
    arguments == MCP || arguments == ["mcp"]
}

/// Our server of the Model Context Protocol in the most common form, after these fields.
fn server(place: &Place, before: &[(&str, &str)]) -> CstInputValue {
    let mut fields: Vec<(String, CstInputValue)> = before
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    fields.push(("command".into(), place.mcp_program().into()));
    fields.push(("args".into(), MCP.to_vec().into()));
    CstInputValue::Object(fields)
}

/// Adds to a plan what makes the servers in a file hold ours, for a removal not.
fn add_server(
    plan: &mut Plan,
    place: &Place,
    path: &Path,
    list: &str,
    wish: Wish,
    server: &dyn Fn() -> CstInputValue,
) -> Result<(), Refusal> {
    note_foreign_server(plan, path, list)?;
    plan.add(place.json(path, wish, &|json: &Json, wish| {
        json.set_server(&[list], server(), wish)
    })?);
    Ok(())
}

/// Adds to a plan what makes a file of settings hold our hooks and, where it is a user's, our server.
fn add_hooks_and_server(
    plan: &mut Plan,
    place: &Place,
    path: &Path,
    tool: &str,
    hooks: &[(&str, CstInputValue)],
    wish: Wish,
) -> Result<(), Refusal> {
    const SERVERS: &str = "mcpServers";
    note_foreign_server(plan, path, SERVERS)?;
    plan.add(place.json(path, wish, &|json: &Json, wish| {
        json.set_hooks(&["hooks"], tool, hooks, wish)?;
        if !place.is_project() {
            json.set_server(&[SERVERS], server(place, &[]), wish)?;
        }
        Ok(())
    })?);
    Ok(())
}

/// Notes a server of our name in a JSON file that is somebody else's.
fn note_foreign_server(plan: &mut Plan, path: &Path, list: &str) -> Result<(), Refusal> {
    let Some(text) = file::read(path)? else {
        return Ok(());
    };
    let json = Json::parse(&text).map_err(|problem| Refusal::new(path, problem))?;
    if json.has_foreign_server(list) {
        plan.note_foreign_server(path);
    }
    Ok(())
}

/// Changes a file that says its version, which is ours where nothing else is left.
fn versioned(
    json: &Json,
    wish: Wish,
    change: &dyn Fn() -> Result<(), String>,
) -> Result<(), String> {
    let before = json.value();
    if wish == Wish::Install {
        json.default("version", 1_usize.into());
    }
    change()?;
    if wish == Wish::Remove && json.value() != before {
        json.remove_version_if_alone();
    }
    Ok(())
}

/// The command, for the program's help and arguments.
pub(crate) fn command() -> Command {
    let text = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(name.to_uppercase())
            .help(help)
            .value_parser(NonEmptyStringValueParser::new())
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    let tool = PossibleValuesParser::new(Tool::ALL.map(Tool::name))
        .try_map(|name| Tool::parse(&name).ok_or("it must be one of these"));
    let about = "Make the coding agents of this machine report by themselves.";
    Command::new("setup")
        .about(about)
        .long_about(format!(
            "{about}\n\nAdds hooks and the MCP server to the configuration of every agent that is found, or of \
             those that are named, and keeps everything else there."
        ))
        .arg(
            Arg::new("TOOL")
                .help("Set up this agent, found or not [default: every agent that is found]")
                .num_args(0..)
                .value_parser(tool),
        )
        .args([
            text("url", "Server that reports go to [default: http://localhost:8080]"),
            text("key", "API key for that server, or - to read it from standard input"),
            text("host", "Name of this machine in reports"),
            switch("project", "Add hooks to the files of the repository here, for everyone who works in it"),
            switch("statusline", "Report also what Claude Code tells its status line: cost, tokens, context")
                .conflicts_with_all(["project", "uninstall"]),
            switch("dry-run", "Show the changes, and make none"),
            switch("uninstall", "Remove what this command added").conflicts_with_all(["url", "key", "host"]),
        ])
}

impl Request {
    /// # Errors
    /// [`ConfigError`] when the key is to be read and cannot be.
    fn new(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let text = |name| matches.get_one::<String>(name).cloned();
        let key = match text("key") {
            Some(key) if key == "-" => {
                let mut line = String::new();
                let read = io::stdin().read_line(&mut line);
                read.map_err(|error| {
                    ConfigError(format!("standard input cannot be read: {error}"))
                })?;
                match line.trim() {
                    "" => return Err(ConfigError("--key -: standard input holds no key".into())),
                    key => Some(key.to_owned()),
                }
            }
            key => key,
        };
        Ok(Self {
            tools: matches
                .get_many("TOOL")
                .unwrap_or_default()
                .copied()
                .collect(),
            uninstall: matches.get_flag("uninstall"),
            dry_run: matches.get_flag("dry-run"),
            project: matches.get_flag("project"),
            statusline: matches.get_flag("statusline"),
            url: text("url"),
            key,
            host: text("host"),
        })
    }
}

/// Sets agents up, or removes what was set up, and says what it did. The exit code is 1 when a file was
/// refused.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let done = Request::new(matches).and_then(|request| carry_out_all(&request));
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(NOT_UNDERSTOOD)
    })
}

/// # Errors
/// [`ConfigError`] for a request that cannot be carried out at all.
fn carry_out_all(request: &Request) -> Result<ExitCode, ConfigError> {
    let place = match request.project {
        true => Place::of_project()?,
        false => Place::of_user()?,
    };
    let place = match request.statusline {
        true => place.with_status_line(),
        false => place,
    };
    let wish = match request.uninstall {
        true => Wish::Remove,
        false => Wish::Install,
    };
    if is_foreign(place.home()) {
        return Err(ConfigError(format!(
            "HOME is {}, which is another user's: run this as that user, without sudo",
            place.home().display()
        )));
    }
    let agents = chosen(request, &place)?;
    if request.statusline && !agents.iter().any(|agent| agent.tool == Tool::ClaudeCode) {
        return Err(ConfigError(
            "--statusline: only Claude Code has one. Name it where it is not found: kubeagents setup \
             claude-code --statusline"
                .into(),
        ));
    }
    let mut told = String::new();
    if wish == Wish::Install {
        told += &whose_agents();
        told += &store(request)?;
    }
    let mut folders = Folders::read()?;
    let mut is_refused = false;
    if agents.is_empty() {
        told += "No coding agent was found on this machine. Name one to set it up all the same, such as: \
                 kubeagents setup claude-code\n";
    }
    let is_named = !request.tools.is_empty();
    let told_before = told.len();
    for agent in agents {
        let title = agent.title;
        match agent.plan(&place, wish) {
            Ok(plan) if wish == Wish::Remove && !plan.has_changes() => {
                if is_named {
                    told += &format!("{title}: there is nothing to remove.\n");
                }
            }
            Ok(plan) if request.dry_run => told += &shown(agent, &plan),
            Ok(plan) => {
                let (text, is_done) = carry_out(agent, &plan, wish, &mut folders);
                told += &text;
                is_refused |= !is_done;
            }
            Err(refusal) => {
                is_refused = true;
                told += &format!("{title}: nothing is changed.\n  {refusal}\n");
            }
        }
    }
    if wish == Wish::Remove {
        if told.len() == told_before {
            told += "There is nothing to remove.\n";
        }
        if !request.dry_run {
            folders.remove_empty();
        }
    }
    folders.write()?;
    print(&told)?;
    Ok(match is_refused {
        true => ExitCode::from(NOT_DONE),
        false => ExitCode::SUCCESS,
    })
}

/// What to say where somebody may have meant agents of their own.
fn whose_agents() -> String {
    let user = env::var("SUDO_USER").unwrap_or_default();
    match rustix::process::geteuid().is_root() && !matches!(user.as_str(), "" | "root") {
        true => {
            format!("This is about the agents of root. For those of {user}, run it without sudo.\n")
        }
        false => String::new(),
    }
}

fn print(text: &str) -> Result<(), ConfigError> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| ConfigError(format!("standard output cannot be written: {error}")))
}

/// The agents that a request is about.
fn chosen(request: &Request, place: &Place) -> Result<Vec<&'static Agent>, ConfigError> {
    if request.tools.is_empty() {
        let all = AGENTS.iter();
        return Ok(all
            .filter(|agent| request.uninstall || agent.is_installed(place))
            .collect());
    }
    let find = |tool: &Tool| {
        Agent::of(*tool).ok_or_else(|| {
            ConfigError(format!(
                "{} cannot be set up: its hooks say that it was opened, and nothing of its work. Let the model \
                 report by MCP: add to ~/.junie/mcp/mcp.json\n{JUNIE}",
                tool.name(),
            ))
        })
    };
    let mut agents: Vec<&'static Agent> = Vec::new();
    for tool in &request.tools {
        let agent = find(tool)?;
        if !agents.iter().any(|known| known.tool == agent.tool) {
            agents.push(agent);
        }
    }
    Ok(agents)
}

/// Stores where reports go, and under which name; what was stored.
fn store(request: &Request) -> Result<String, ConfigError> {
    let path = ClientConfig::path().ok_or_else(|| ConfigError("HOME must be set".into()))?;
    let old = ClientConfig::read()?;
    let mut new = old.clone();
    let mut told = String::new();
    if let Some(url) = &request.url {
        let texts = Texts::from_iter([("KUBEAGENTS_SERVER_URL", url.clone())]);
        let url = ClientValues::read(Host::Native, texts)
            .map_err(|error| {
                ConfigError(error.to_string().replace("KUBEAGENTS_SERVER_URL", "--url"))
            })?
            .server_url;
        // A key goes to no other server than the one that it was made for.
        if new.key.is_some() && new.url.as_ref() != Some(&url) && request.key.is_none() {
            new.key = None;
            told += "The stored key was for another server and is removed: give the new one with --key.\n";
        }
        new.url = Some(url);
    }
    if let Some(key) = &request.key {
        let texts = Texts::from_iter([("KUBEAGENTS_API_KEY", key.clone())]);
        ClientValues::read(Host::Native, texts).map_err(|error| {
            ConfigError(error.to_string().replace("KUBEAGENTS_API_KEY", "--key"))
        })?;
        new.key = Some(key.clone());
    }
    if let Some(host) = &request.host {
        let texts = Texts::from_iter([("KUBEAGENTS_HOST", host.clone())]);
        ClientValues::read(Host::Native, texts)
            .map_err(|error| ConfigError(error.to_string().replace("KUBEAGENTS_HOST", "--host")))?;
        new.host = Some(host.clone());
    } else if new.host.is_none() && !request.project {
        new.host = surroundings::machine();
    }
    if new != old {
        let verb = match request.dry_run {
            true => "would be written",
            false => {
                new.write()?;
                "is written"
            }
        };
        let key = match new.key {
            Some(_) => "a key",
            None => "no key",
        };
        told += &format!(
            "{} {verb}: server {}, {key}, machine {}\n",
            path.display(),
            new.url.as_deref().unwrap_or("http://localhost:8080"),
            new.host.as_deref().unwrap_or("by its project's folder"),
        );
    }
    Ok(told)
}

/// What would be changed for an agent.
fn shown(agent: &Agent, plan: &Plan) -> String {
    let changes: String = plan
        .changes
        .iter()
        .filter(|change| change.is_one())
        .map(Change::diff)
        .collect();
    match changes.is_empty() {
        true => format!("{}: no change.\n{}", agent.title, notes(plan)),
        false => format!("{}:\n{changes}{}", agent.title, notes(plan)),
    }
}

fn notes(plan: &Plan) -> String {
    plan.notes
        .iter()
        .map(|note| format!("  {note}\n"))
        .collect()
}

/// Makes the changes for an agent, until one of them fails; says what was done, and whether it was all.
fn carry_out(agent: &Agent, plan: &Plan, wish: Wish, folders: &mut Folders) -> (String, bool) {
    let mut told = String::new();
    let changes = || plan.changes.iter().filter(|change| change.is_one());
    if let Some(refusal) = changes().find_map(|change| change.check().err()) {
        return (
            format!("{}: nothing is changed.\n  {refusal}\n", agent.title),
            false,
        );
    }
    for change in &plan.changes {
        let made = match change.is_one() {
            true => change.make().map(|(done, made)| {
                told += &format!("  {done}\n");
                folders.add(made);
            }),
            false => Ok(()),
        };
        let done = made.and_then(|()| match wish {
            Wish::Remove => change.drop_backup(),
            Wish::Install => Ok(()),
        });
        if let Err(refusal) = done {
            let how_far = match told.is_empty() {
                true => "nothing is changed",
                false => "changed in part",
            };
            return (
                format!("{}: {how_far}.\n{told}  {refusal}\n", agent.title),
                false,
            );
        }
    }
    let heading = match (told.is_empty(), wish) {
        (true, _) => format!("{}: set up already.\n", agent.title),
        (false, Wish::Install) => format!("{}: set up.\n", agent.title),
        (false, Wish::Remove) => format!("{}: removed.\n", agent.title),
    };
    let steps = match wish {
        Wish::Install if !told.is_empty() && !plan.is_left_to_plugin => plan.steps.as_slice(),
        _ => &[],
    };
    let steps: String = steps
        .iter()
        .map(|step| format!("  To do: {step}\n"))
        .collect();
    (format!("{heading}{told}{}{steps}", notes(plan)), true)
}
