/** Turns what went wrong into one sentence that says what to do. */

import { ConnectionError, ConnectionErrorReason, DeviceUnsupportedError, DisconnectReason } from 'livekit-client';

export type Device = 'camera' | 'microphone' | 'camera and microphone';

/** Browsers hide cameras and microphones from pages that did not come over https or from localhost. */
export function devicesAreHidden(): boolean {
  return !navigator.mediaDevices?.getUserMedia;
}

export function deviceSentence(device: Device, error: unknown): string {
  if (devicesAreHidden()) {
    return 'This page was opened without https, so the browser hides the camera and microphone. You can still watch and listen.';
  }
  const name = error instanceof Error ? error.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `Your browser blocked the ${device}. Allow it beside the address bar, then switch it on here.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return device === 'camera'
        ? 'No camera found. The others can hear you, but not see you.'
        : device === 'microphone'
          ? 'No microphone found. The others will not hear you.'
          : 'No camera and no microphone found. You can still watch and listen.';
    case 'NotReadableError':
    case 'AbortError':
      return `The ${device} cannot be started. Perhaps another program is using it.`;
    default:
      return `The ${device} cannot be started${error instanceof Error && error.message ? ` (${error.message})` : ''}.`;
  }
}

export function screenSentence(error: unknown): string | undefined {
  const name = error instanceof Error ? error.name : '';
  // Closing the browser's own picker is a decision, not a failure.
  if (name === 'NotAllowedError' || name === 'AbortError') return undefined;
  if (!navigator.mediaDevices?.getDisplayMedia) return 'This browser cannot share a screen.';
  return 'The screen cannot be shared. The browser did not hand it over.';
}

export function unexpectedSentence(error: unknown): string {
  return error instanceof DeviceUnsupportedError
    ? 'This browser cannot encrypt end to end. Join without a passphrase, or with another browser.'
    : `Joining failed (${String(error)}).`;
}

/** `signalled`: the server answered on the WebSocket, so what failed is the media path. */
export function joinSentence(error: unknown, signalled: boolean, mediaPorts: string): string {
  const host = location.hostname;
  if (error instanceof TokenError) return error.message;
  if (error instanceof ConnectionError) {
    switch (error.reason) {
      case ConnectionErrorReason.NotAllowed:
        return `The server refused to let you in: ${error.message}.`;
      case ConnectionErrorReason.ServerUnreachable:
      case ConnectionErrorReason.WebSocket:
        return `The server at ${host} does not answer. Is it running?`;
      case ConnectionErrorReason.Cancelled:
        return 'Joining was interrupted.';
      case ConnectionErrorReason.LeaveRequest:
        return 'The server sent you away. Try again in a moment.';
      default:
        if (signalled) {
          return `Cannot reach ${mediaPorts} on ${host}. A firewall between you and the server may be blocking it.`;
        }
        return error.reason === ConnectionErrorReason.Timeout
          ? `The server at ${host} took too long to answer.`
          : 'The server cannot take another call just now.';
    }
  }
  return `Joining failed${error instanceof Error && error.message ? `: ${error.message}` : ''}.`;
}

/** Why the call is over, when it was not us who left. */
export function endSentence(reason: DisconnectReason | undefined): string {
  switch (reason) {
    case DisconnectReason.DUPLICATE_IDENTITY:
      return 'You joined this call from another window, so it ended here.';
    case DisconnectReason.SERVER_SHUTDOWN:
      return 'The server is shutting down.';
    case DisconnectReason.PARTICIPANT_REMOVED:
      return 'You were removed from the call.';
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return 'The call was closed.';
    default:
      return 'The connection was lost and did not come back.';
  }
}

/** The server would not give a token; the message is ready to be shown. */
export class TokenError extends Error {}
