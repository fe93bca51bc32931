// The demo's OpenID provider: a real one (oidc-provider) with test accounts and a password form.
// node provider.mjs CONFIG; CONFIG is JSON: issuer, address, port, certificate and key (PEM), cookie_secret,
// access_token_seconds (3600) and rotate_refresh_tokens (as oidc-provider decides), either of which may be left out;
// clients [{id, secret, auth, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri}] (the last and auth may
// be left out), accounts {login: {password, name, email, groups}}. On SIGHUP it signs with a new key.
import { createHash, createHmac, generateKeyPairSync, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const digest = (text) => createHash('sha256').update(text).digest();
const subject = (login) => createHmac('sha256', config.cookie_secret).update(login).digest('hex').slice(0, 32);
const logins = new Map(Object.keys(config.accounts).map((login) => [subject(login), login]));

const newProvider = () => new Provider(config.issuer, {
  clients: config.clients.map((client) => ({
    client_id: client.id,
    client_secret: client.secret,
    token_endpoint_auth_method: client.auth ?? 'client_secret_basic',
    redirect_uris: client.redirect_uris,
    post_logout_redirect_uris: client.post_logout_redirect_uris,
    ...(client.backchannel_logout_uri && {
      backchannel_logout_uri: client.backchannel_logout_uri, backchannel_logout_session_required: true,
    }),
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  })),
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'groups'], email: ['email', 'email_verified'] },
  async findAccount(_ctx, accountId) {
    const login = logins.get(accountId);
    const account = config.accounts[login];
    return account && {
      accountId,
      claims: async () => ({
        sub: accountId,
        name: account.name,
        preferred_username: login,
        groups: account.groups,
        email: account.email,
        email_verified: true,
      }),
    };
  },
  pkce: { required: () => true },
  ...(config.rotate_refresh_tokens !== undefined && { rotateRefreshToken: config.rotate_refresh_tokens }),
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  // What a user may see is the site's own decision here: there is nobody to ask for consent.
  async loadExistingGrant(ctx) {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid profile email offline_access');
    await grant.save();
    return grant;
  },
  // A site's provider has names of its own; a test bed's has addresses, which the default refuses to call.
  fetch: (url, { dispatcher: _refusing, ...options }) => globalThis.fetch(url, options),
  jwks: { keys: [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [config.cookie_secret] },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { Session: 43200, Interaction: 600, AccessToken: config.access_token_seconds ?? 3600, IdToken: 43200, Grant: 43200, RefreshToken: 43200 },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: async (ctx, form) => { ctx.body = page('Sign out', `${form}
        <p>Sign out of the demo's provider too?</p>
        <button type="submit" form="op.logoutForm" value="yes" name="logout" id="confirm" autofocus>Sign out</button>
        <button type="submit" form="op.logoutForm" class="plain">Stay signed in</button>`); },
      postLogoutSuccessSource: async (ctx) => { ctx.body = page('Signed out', '<p>You are signed out.</p>'); },
    },
  },
  async renderError(ctx, out) {
    ctx.type = 'html';
    ctx.body = page('Sign-in is not possible', `<p>${escape(out.error)}: ${escape(out.error_description ?? '')}</p>`);
  },
});

function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function page(title, body) {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>${escape(title)}</title><style>
body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;background:#f4f4f5;color:#18181b}
main{background:#fff;padding:2rem;border-radius:12px;box-shadow:0 1px 4px #0003;width:min(20rem,80vw)}
input,button{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.2rem 0 .8rem;border:1px solid #a1a1aa;border-radius:8px}
button{background:#1d4ed8;color:#fff;border:0;cursor:pointer}.plain{background:#e4e4e7;color:#18181b}.problem{color:#b91c1c}
</style><main><h1>${escape(title)}</h1>${body}</main></html>`;
}

function form(uid, problem = '') {
  return page('Demo sign-in', `<p class="problem" role="alert">${escape(problem)}</p>
<form method="post" action="/interaction/${escape(uid)}">
<label for="login">Account</label><input id="login" name="login" required autofocus autocomplete="username">
<label for="password">Password</label><input id="password" name="password" type="password" required autocomplete="current-password">
<button type="submit" id="submit">Sign in</button>
<button type="submit" id="refuse" name="refuse" value="yes" class="plain" formnovalidate>Do not sign in</button></form>`);
}

async function readForm(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 8192) throw new Error('the form is too large');
  }
  return new URLSearchParams(text);
}

async function interact(request, response) {
  const { uid, prompt } = await provider.interactionDetails(request, response);
  if (prompt.name !== 'login') throw new Error(`unexpected prompt ${prompt.name}`);
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  response.setHeader('Cache-Control', 'no-store');
  if (request.method !== 'POST') return response.end(form(uid));
  const fields = await readForm(request);
  if (fields.has('refuse')) {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'You refused.' });
  }
  const login = fields.get('login') ?? '';
  const known = Object.hasOwn(config.accounts, login);
  const expected = digest(known ? config.accounts[login].password : '');
  if (!known || !timingSafeEqual(digest(fields.get('password') ?? ''), expected)) {
    response.statusCode = 401;
    return response.end(form(uid, 'Account or password is wrong.'));
  }
  return provider.interactionFinished(request, response, { login: { accountId: subject(login) } });
}

let provider;
let handle;
function start() {
  provider = newProvider();
  provider.on('backchannel.error', (_ctx, error) => console.error(`back-channel logout failed: ${error.cause?.message ?? error.message}`));
  handle = provider.callback();
}

start();
process.on('SIGHUP', start);
const tls = { cert: config.certificate, key: config.key };
const server = createServer(tls, (request, response) => {
  if (!request.url.startsWith('/interaction/')) return handle(request, response);
  return interact(request, response).catch((error) => {
    response.statusCode = 400;
    response.end(page('Sign-in is not possible', `<p>${escape(error.message)}</p><p>Start again at the application.</p>`));
  });
});
server.listen(config.port, config.address, () => console.log(`listening on ${config.address}:${config.port} as ${config.issuer}`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
