"""Made-up examples of every known shape of a secret, in parts, so that no scanner finds them."""

# ruff: noqa: E501

# fmt: off
PARTS: dict[str, list[list[str]]] = {
    "Stripe key": [["sk_li", "ve_51Habcdefghij0123456789"], ["rk_te", "st_abcdefghij0123456789"]],
    "Stripe webhook secret": [["whs", "ec_abcdefghij0123456789ABCD"]],
    "Square token": [["sq0", "atp-abcdefghij0123456789AB"], ["EAA", "Aabcdefghij0123456789abcdefghij0123456789abcdefghij0123456789"]],
    "Braintree token": [["access_token", "$production$abcdefghij012345$0123456789abcdef0123456789abcdef"]],
    "Shopify token": [["shp", "at_0123456789abcdef0123456789ABCDEF"]],
    "Flutterwave key": [["FLW", "SECK_TEST-0123456789abcdef0123456789abcdef"]],
    "Plaid token": [["access-prod", "uction-01234567-89ab-cdef-0123-456789abcdef"]],
    "AWS key": [["AKI", "AIOSFODNN7ABCDEFG"], ["ASI", "AIOSFODNN7ABCDEFG"]],
    "AWS secret key": [["aws_secret_access", "_key = abcdefghij0123456789/ABCDEFGHIJ+01234567"]],
    "Google API key": [["AIz", "aabcdefghij0123456789_ABCDEFGHIJ-012"]],
    "Google token": [["ya2", "9.abcdefghij0123456789_ABCDEFGHIJ"], ["GOC", "SPX-abcdefghij0123456789_ABCDEFG"]],
    "Azure client secret": [["abc8", "Q~abcdefghij0123456789_ABCDEFGHIJ-01"]],
    "Azure account key": [["AccountName=a;Account", "Key=abcdefghij0123456789ABCDEFGHIJ=="]],
    "Alibaba key": [["LTA", "I5tabcdefghij01234567"]],
    "DigitalOcean token": [["dop", "_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]],
    "cloud platform token": [["HRK", "U-abcdefghij0123456789_ABCDEFGHIJ-01234"], ["dap", "i0123456789abcdef0123456789abcdef"], ["pu", "l-0123456789abcdef0123456789abcdef01234567"], ["dp", ".pt.abcdefghij0123456789abcdefghij0123456789abc"]],
    "vault token": [["hv", "s.abcdefghij0123456789_ABCDEFGHIJ"]],
    "GitHub token": [["gh", "p_abcdefghij0123456789ABCDEFGHIJ012345"], ["github", "_pat_abcdefghij0123456789"]],
    "GitLab token": [["glp", "at-abcdefghij0123456789"], ["glr", "t-abcdefghij0123456789"]],
    "Atlassian token": [["ATA", "TT3abcdefghij0123456789abcdefghij0123456789"], ["ATB", "Babcdefghij0123456789ABCDEFGH"]],
    "registry token": [["npm", "_abcdefghij0123456789ABCDEFGHIJ012345"], ["pyp", "i-AgEIcHlwaS5vcmcabcdefghij0123456789abcdefghij0123456789"], ["rubygems", "_0123456789abcdef0123456789abcdef0123456789abcdef"], ["dck", "r_pat_abcdefghij0123456789_-ABCDE"], ["ci", "oabcdefghij0123456789ABCDEFGHIJ01"]],
    "registry password": [["//registry.example/:_auth", "Token=abcdefghij0123456789"]],
    "model service key": [["sk-a", "nt-api03-abcdefghij0123456789"], ["sk", "-abcdefghij0123456789"], ["h", "f_abcdefghij0123456789ABCDEFGHIJ0123"]],
    "JSON web token": [["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghij0123456789"]],
    "authorization header": [["Authori", "zation: Bearer abcdefghij0123456789"], ["authori", "zation: Basic bWU6cGFzc3dvcmQ="]],
    "age key": [["AGE-SECRET", "-KEY-1QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE"]],
    "private key": [["-----BEGIN RSA PRIV", "ATE KEY-----\nDEK-Info: AES-128-CBC,00\n\nabcdefghij0123456789\n-----END RSA PRIV", "ATE KEY-----"], ["-----BEGIN OPENSSH PRIV", 'ATE KEY-----\\nabcdefghij0123456789']],
    "Slack token": [["xox", "b-012345678901-abcdefghij"], ["xap", "p-1-A0123456789-0123456789"]],
    "chat hook": [["https://hooks.sla", "ck.com/services/T01234567/B01234567/abcdefghij0123456789ABCD"], ["https://disc", "ord.com/api/webhooks/012345678901234567/abcdefghij_0123456789-ABCDEFGHIJ"], ["https://me.webhook.off", "ice.com/webhookb2/01234567-89ab@01234567-89ab/IncomingWebhook/0123456789abcdef"], ["https://outlook.off", "ice.com/webhook/01234567-89ab@01234567-89ab/IncomingWebhook/0123456789abcdef"]],
    "Mattermost hook": [["https://chat.example/hoo", "ks/abcdefghijklm0123456789abc"]],
    "Telegram token": [["0123456789:A", "Aabcdefghij0123456789_ABCDEFGHIJ-01"], ["https://api.telegram.org/bot0123456789:A", "Aabcdefghij0123456789_ABCDEFGHIJ-01/getMe"]],
    "mail service key": [["S", "G.abcdefghij0123456789ab.abcdefghij0123456789ABCDEFGHIJ0123456789abc"], ["ke", "y-0123456789abcdef0123456789abcdef"], ["0123456789abcdef", "0123456789abcdef-us12"]],
    "service token": [["sntr", "yu_0123456789abcdef0123456789abcdef"], ["lin_a", "pi_abcdefghij0123456789ABCDEFGHIJ0123456789"], ["PMA", "K-0123456789abcdef01234567-0123456789abcdef0123456789abcdef01"]],
    "password in an address": [["postgres://me:", "pass-word@db.example/app"], ["redis://:", "pass-word@cache.example:6379/0"], ["https://me:", "ghs0123@git.example/o/r.git"]],
    "token in an address": [["https://0123456789abcdef", "0123456789abcdef@git.example/o/r.git"]],
    "password in a query": [["https://api.example/x?pass", "word=hunter22"], ["https://api.example/x?a=b&access", "_token=abcdefghij"], ["https://s3.example/o?X-Amz-", "Signature=0123456789abcdef"], ["Server=db;Uid=me;Pw", "d=hunter22;"], ["https://me.example/#access", "_token=abcdefghij"]],
    "database password": [["host=db user=me pass", "word=hunter22 dbname=app"]],
    "secret in a variable": [["DB_PASS", "WORD=hunter2secret"], ["PASS", "WORD: hunter2secret"], ["export APP_API", "_KEY='abcdefghij0123456789'"], ["{\"SESSION_SEC", "RET\": \"abcdefghij0123456789\"}"]],
    "secret of an option": [["mysql --pass", "word=hunter2secret -u me"], ["tool --api", "-key=abcdefghij0123456789"]],
    "secret of a client": [["client_sec", "ret=abcdefABCDEF0123456789"], ["aws_session_", "token = IQoJb3JpZ2luX2VjEOL0123456789abcdef"]],
    "secret in a header": [["X-Api-", "Key: abcdefghij0123456789"]],
    "cookie": [["Coo", "kie: session=abcdefghij0123456789"], ["Set-Coo", "kie: a=b; session=abcdefghij0123456789"]],
    "password of .netrc": [["machine git.example login me pass", "word hunter2secret"]],
    "Twilio key": [["S", "K0123456789abcdef0123456789abcdef"]],
}
# fmt: on
#: By the name of the shape.
EXAMPLES = {name: ["".join(parts) for parts in examples] for name, examples in PARTS.items()}
