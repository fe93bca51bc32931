// The site's own pages, such as its imprint, as the server names them.
const links: [string, string][] = JSON.parse(document.getElementById("app")?.dataset.legal ?? "[]");

export function Legal() {
  if (!links.length) return null;
  return (
    <p class="kept quiet" id="legal">
      {links.map(([text, to]) => (
        <a key={to} href={to} target="_blank" rel="noopener noreferrer">
          {text}
        </a>
      ))}
    </p>
  );
}
