//! What the proxy with TLS passes on to us. `/metrics`, the API and the page stay inside.

use super::answers::Answers;

pub fn caddy(answers: &Answers) -> String {
    let Answers { listen, server_name, .. } = answers;
    let (authority, site) = (answers.authority(), super::well_known::text(answers));
    let site: Vec<&str> = site.split_whitespace().collect();
    format!(
        "{authority} {{\n\
         \t@hausruf path /sfu/get /get_token /delegate_delayed_leave /healthz /rtc /rtc/*\n\
         \thandle @hausruf {{\n\
         \t\treverse_proxy {upstream}\n\
         \t}}\n\
         }}\n\
         \n\
         # In the block of {server_name}, unless Synapse serves this document there already:\n\
         #\n\
         #\thandle /.well-known/matrix/client {{\n\
         #\t\theader Access-Control-Allow-Origin *\n\
         #\t\theader Content-Type application/json\n\
         #\t\trespond `{site}`\n\
         #\t}}\n",
        upstream = super::answers::reachable(*listen),
        site = site.join(" "),
    )
}

pub fn nginx(answers: &Answers) -> String {
    let Answers { listen, server_name, .. } = answers;
    let (host, site) = (answers.host(), super::well_known::text(answers));
    let site: Vec<&str> = site.split_whitespace().collect();
    format!(
        "server {{\n\
         \x20   listen 443 ssl;\n\
         \x20   listen [::]:443 ssl;\n\
         \x20   server_name {host};\n\
         \x20   # ssl_certificate     /etc/letsencrypt/live/{host}/fullchain.pem;\n\
         \x20   # ssl_certificate_key /etc/letsencrypt/live/{host}/privkey.pem;\n\
         \n\
         \x20   # The offer of a browser stands in the address.\n\
         \x20   large_client_header_buffers 4 32k;\n\
         \n\
         \x20   location ~ ^/(sfu/get|get_token|delegate_delayed_leave|healthz)$ {{\n\
         \x20       proxy_pass http://{upstream};\n\
         \x20       proxy_set_header Host $host;\n\
         \x20   }}\n\
         \n\
         \x20   location ~ ^/rtc(/|$) {{\n\
         \x20       proxy_pass http://{upstream};\n\
         \x20       proxy_http_version 1.1;\n\
         \x20       proxy_set_header Upgrade $http_upgrade;\n\
         \x20       proxy_set_header Connection \"upgrade\";\n\
         \x20       proxy_set_header Host $host;\n\
         \x20       proxy_read_timeout 1h;\n\
         \x20   }}\n\
         }}\n\
         \n\
         # In the server block of {server_name}, unless Synapse serves this document there already:\n\
         #\n\
         #    location = /.well-known/matrix/client {{\n\
         #        default_type application/json;\n\
         #        add_header Access-Control-Allow-Origin *;\n\
         #        return 200 '{site}';\n\
         #    }}\n",
        upstream = super::answers::reachable(*listen),
        site = site.join(" "),
    )
}
