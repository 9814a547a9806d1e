import { type Participant, type Room, Track } from 'livekit-client';
import { el } from './dom';
import { gridBoxes, spotlightBoxes } from './layout';
import { Tile, type TileKind } from './tile';

/** The area with the tiles: who is in it, where each tile stands, which one is large. */
export class Stage {
  readonly element: HTMLElement;
  private readonly tiles = new Map<string, Tile>();
  private readonly empty: HTMLElement;
  private pinned: string | undefined;
  private readonly observer: ResizeObserver;

  constructor(
    private readonly room: Room,
    emptyText: Node,
  ) {
    this.empty = el('div', { class: 'stage-empty', hidden: true }, emptyText);
    this.element = el('div', { class: 'stage' }, this.empty);
    this.observer = new ResizeObserver(() => this.place());
    this.observer.observe(this.element);
  }

  /** Brings the tiles in line with the room. Cheap enough to run at every event. */
  update(): void {
    // The others first in the order they came, oneself last: nobody's tile moves when somebody joins.
    const others = [...this.room.remoteParticipants.values()].sort(
      (a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0) || a.identity.localeCompare(b.identity),
    );
    const wanted: [Participant, TileKind][] = [];
    for (const participant of [...others, this.room.localParticipant]) {
      if (!participant.identity) continue;
      if (sharesScreen(participant)) wanted.unshift([participant, 'screen']);
      wanted.push([participant, 'person']);
    }
    const keys = new Set(wanted.map(([participant, kind]) => Tile.keyOf(participant, kind)));
    for (const [key, tile] of this.tiles) {
      const still = wanted.some(([participant]) => participant === tile.participant);
      if (keys.has(key) && still) continue;
      tile.remove();
      this.tiles.delete(key);
    }
    const ordered: Tile[] = [];
    for (const [participant, kind] of wanted) {
      const key = Tile.keyOf(participant, kind);
      let tile = this.tiles.get(key);
      if (!tile) {
        tile = new Tile(participant, kind, (pinned) => this.togglePin(pinned));
        this.tiles.set(key, tile);
        this.element.append(tile.element);
      }
      ordered.push(tile);
    }
    this.tiles.clear();
    for (const tile of ordered) this.tiles.set(tile.key, tile);
    for (const tile of ordered) tile.update(tile.key === this.pinned);
    this.empty.hidden = ordered.length !== 1 || this.room.state !== 'connected';
    this.place();
  }

  async sample(): Promise<void> {
    await Promise.all([...this.tiles.values()].map((tile) => tile.sample()));
  }

  close(): void {
    this.observer.disconnect();
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
  }

  private togglePin(tile: Tile): void {
    this.pinned = this.pinned === tile.key ? undefined : tile.key;
    this.update();
  }

  private place(): void {
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    const gap = width < 600 ? 6 : 10;
    const all = [...this.tiles.values()];
    const main = all.find((tile) => tile.key === this.pinned) ?? all.find((tile) => tile.kind === 'screen');
    for (const tile of all) tile.element.classList.toggle('main', tile === main);
    if (main && all.length > 1) {
      const rest = all.filter((tile) => tile !== main);
      const boxes = spotlightBoxes(rest.length, width, height, gap);
      main.place(boxes.main);
      for (const [index, tile] of rest.entries()) tile.place(boxes.strip[index] ?? { x: 0, y: 0, width: 0, height: 0 });
    } else {
      const boxes = gridBoxes(all.length, width, height, gap);
      for (const [index, tile] of all.entries()) tile.place(boxes[index] ?? { x: 0, y: 0, width: 0, height: 0 });
    }
  }
}

function sharesScreen(participant: Participant): boolean {
  const publication = participant.getTrackPublication(Track.Source.ScreenShare);
  return publication !== undefined && !publication.isMuted && publication.track !== undefined;
}
