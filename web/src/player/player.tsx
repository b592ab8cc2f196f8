// The player's doorway; its parts come with the player itself.
export default function Player({ files }: { files: string[] }) {
  return <div hidden>{files.length}</div>;
}
