//! Whose tokens we have, and whether they are those of this homeserver.

use config::Matrix;

use super::connection::Dialer;
use super::http::HttpError;
use super::report::Verdict;

/// What the homeserver says to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whoami {
    User(String),
    /// Status and error code.
    Refused(String),
}

pub async fn whoami(dialer: &Dialer, base: &str, token: &str) -> Result<Whoami, HttpError> {
    let answer = dialer.get(format!("{base}/_matrix/client/v3/account/whoami")).token(token).send().await?;
    let user = answer.json().and_then(|json| json["user_id"].as_str().map(str::to_owned));
    Ok(match user {
        Some(user) if answer.is_success() => Whoami::User(user),
        _ => Whoami::Refused(answer.told()),
    })
}

/// The token of a user.
pub fn judge_user(whoami: &Whoami, base: &str) -> Verdict {
    match whoami {
        Whoami::User(user) => Verdict::Fine(format!("The given token is that of {user}.")),
        Whoami::Refused(told) => Verdict::Wrong(format!(
            "{base} does not accept the token given with --as-user ({told}): copy a fresh one (Element: Settings, Help & \
             About, Access Token)."
        )),
    }
}

/// `as_token`; `other` is what the homeserver says to the `hs_token` in its place, asked only after a refusal.
pub fn judge_appservice(whoami: &Whoami, other: Option<&Whoami>, base: &str, matrix: &Matrix) -> Verdict {
    match (whoami, other) {
        (Whoami::User(user), _) => {
            let server = user.split_once(':').map_or("", |(_, server)| server);
            if server != matrix.server_name {
                return Verdict::Wrong(format!(
                    "hausruf.toml says matrix.server_name = \"{}\" but the homeserver is \"{server}\": write that.",
                    matrix.server_name
                ));
            }
            Verdict::Fine(format!("The homeserver knows the appservice as {user}."))
        }
        (Whoami::Refused(_), Some(Whoami::User(_))) => Verdict::Wrong(
            "as_token and hs_token are swapped: exchange them in hausruf.toml, or in the registration and restart \
             Synapse."
                .into(),
        ),
        (Whoami::Refused(told), _) => Verdict::Wrong(format!(
            "{base} does not know the as_token of hausruf.toml ({told}): name the registration in \
             app_service_config_files, let both have the same as_token, and restart Synapse."
        )),
    }
}

#[cfg(test)]
mod tests {
    use config::Config;

    use super::*;

    fn matrix() -> Matrix {
        let text = r#"
            [matrix]
            homeserver = "http://127.0.0.1:8008"
            server_name = "example.org"
            url = "https://calls.example.org"
            as_token = "0123456789012345678901234567890a"
            hs_token = "0123456789012345678901234567890h"
        "#;
        Config::parse(text).unwrap().matrix.unwrap()
    }

    fn judge(whoami: &Whoami, other: Option<&Whoami>) -> Verdict {
        judge_appservice(whoami, other, "https://m", &matrix())
    }

    #[test]
    fn wrong_swapped_and_foreign_tokens_are_told_apart() {
        let known = Whoami::User("@hausruf:example.org".into());
        let refused = Whoami::Refused("401 M_UNKNOWN_TOKEN".into());
        assert!(matches!(judge(&known, None), Verdict::Fine(_)));
        let told = |verdict: Verdict| match verdict {
            Verdict::Wrong(sentence) => sentence,
            other => panic!("{other:?}"),
        };
        assert!(told(judge(&refused, Some(&known))).contains("swapped"));
        assert!(told(judge(&refused, Some(&refused))).contains("does not know the as_token"));
        let foreign = Whoami::User("@hausruf:matrix.example.org".into());
        assert!(told(judge(&foreign, None)).contains("the homeserver is \"matrix.example.org\": write that"));
        assert!(told(judge_user(&refused, "https://m")).contains("--as-user"));
    }
}
