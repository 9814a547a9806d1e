//! The program: command line, starting and ending, logs.

mod addresses;
mod cli;
mod credentials;
mod demo;
mod doctor;
mod event_queue;
mod import;
mod init;
mod logging;
mod operations;
mod own_addresses;
mod reload;
mod remedies;
mod revocation_store;
mod server;
mod settings;
mod signals;
mod stdout;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use config::Config;

use cli::{Cli, Command, Credentials, Demo, Serve};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Demo(demo)) => run_demo(&demo).map(|()| ExitCode::SUCCESS),
        Some(Command::Serve(serve)) => run_serve(&serve).map(|()| ExitCode::SUCCESS),
        Some(Command::Init(options)) => init::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Doctor(options)) => doctor::run(&options),
        Some(Command::Sessions(options)) => operations::command::sessions(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Reload(socket)) => operations::command::reload(&socket).map(|()| ExitCode::SUCCESS),
        Some(Command::Drain(options)) => operations::command::drain(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Revoke(options)) => operations::command::revoke(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Import(options)) => import::run(&options).map(|()| ExitCode::SUCCESS),
        None => run_serve(&cli.serve).map(|()| ExitCode::SUCCESS),
        Some(Command::Credentials(wanted)) => run_credentials(&wanted).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hausruf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_serve(serve: &Serve) -> anyhow::Result<()> {
    let path = serve.config.as_deref().context("name the configuration with --config FILE")?;
    let config = load(path)?;
    if serve.check_config {
        settings::check_files(&config)?;
        let told = [format!("{} is valid.", path.display())].into_iter().chain(config.notes());
        return stdout::print(&told.map(|line| line + "\n").collect::<String>());
    }
    let file = reload::File { path: path.to_owned(), refilter: logging::start(&config.log)? };
    server::run(&config, Some(file), false, || ())
}

fn run_credentials(wanted: &Credentials) -> anyhow::Result<()> {
    let path = wanted.config.as_deref().context("name the configuration with --config FILE")?;
    let unix = datapath::driver::Clock::new().read().unix;
    let minted = credentials::mint(&load(path)?, wanted, unix)?;
    stdout::print(&format!("username: {}\npassword: {}\n", minted.username, minted.password))
}

fn load(path: &Path) -> anyhow::Result<Config> {
    Config::load(path).map_err(|error| match error {
        // It names the path itself.
        config::Error::Unreadable(..) => anyhow::anyhow!("{error}"),
        error => anyhow::anyhow!("{} is wrong:\n{error}", path.display()),
    })
}

fn run_demo(demo: &Demo) -> anyhow::Result<()> {
    let config = demo::config(demo);
    let _ = logging::start(&config.log)?;
    let url = addresses::page_url(demo.listen, &demo.advertise);
    server::run(&config, None, true, || drop(stdout::print(&format!("{url}\n"))))
}
