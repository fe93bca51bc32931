// Pictures within buttons. They are drawn in the text's colour, also where a browser forces colours.
const PATHS = {
  menu: "M3 6h18M3 12h18M3 18h18",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M5.5 11.500 12 5l6.500 6.500",
  trash: "M4 7h16M9.500 7V4.500h5V7M6.500 7l1 13h9l1-13M10.500 11v5.500M13.500 11v5.500",
  again: "M19.500 12a7.500 7.500 0 1 1-2.300-5.400M19.500 3.500v4h-4",
  check: "m5 12.500 4.500 4.500L19 7.500",
  copy: "M10.500 8.500h7a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-7a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2M15.500 8.500v-2a2 2 0 0 0-2-2h-7a2 2 0 0 0-2 2v7a2 2 0 0 0 2 2h2",
  edit: "M4.500 19.500h4l11-11-4-4-11 11zM13 7l4 4",
  left: "m14.500 6-6 6 6 6",
  right: "m9.500 6 6 6-6 6",
  go: "M5 12h14M13 6l6 6-6 6",
  more: "M5.500 12h.01M12 12h.01M18.500 12h.01",
  pin: "M9 4h6l-.700 6.500L18 14H6l3.700-3.500zM12 14v6",
  folder: "M3.500 6.500h6l2 2.500h9v10h-17z",
  temporary: "M12 4a8 8 0 1 0 8 8M12 8v4l2.500 2.500M15.500 4.800h.01M18.800 7.700h.01",
  clip: "m8.500 12.500 5.600-5.600a2.700 2.700 0 0 1 3.800 3.800l-7.400 7.400a4.400 4.400 0 0 1-6.200-6.200l7-7",
  close: "m6 6 12 12M18 6 6 18",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M13 4.500h4v5h-4zM7 14.500h4v5H7z",
  columns: "M4.500 5h15v14h-15zM12 5v14",
  stop: "M8.500 6.500h7a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-7a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="glyph" viewBox="0 0 24 24" aria-hidden="true">
      <path class={name === "stop" ? "solid" : ""} d={PATHS[name]} />
    </svg>
  );
}

interface Props {
  id?: string;
  icon: IconName;
  label: string;
  onClick: () => void;
  hidden?: boolean;
  disabled?: boolean;
  // Of a button that switches something on and off.
  pressed?: boolean;
  large?: boolean;
}

export function IconButton(props: Props) {
  const { id, icon, label, onClick, hidden = false, disabled = false, pressed, large = false } = props;
  // With a thing that is deleted its button goes, and the next one moves into the place: a double click would take both.
  const click = (event: MouseEvent) => {
    if (icon !== "trash" || event.detail < 2) onClick();
  };
  return (
    <button
      type="button"
      id={id}
      class={large ? "icon-button" : "icon-button small"}
      title={label}
      aria-label={label}
      aria-pressed={pressed}
      onClick={click}
      hidden={hidden}
      disabled={disabled}
    >
      <Icon name={icon} />
    </button>
  );
}
