package migrate

// In a Cluster, a run copies an entry to its new name and then deletes the original. Answers may be lost, and the application
// may change or delete the original at any time. The run knows each of its copies by the bytes that it wrote, and keeps a
// state for it. The state says what a missing original means.
//
//   - An own copy was written by this run, or may have been: its answer was lost. No deletion of the original is open. If the
//     original is gone, the application has deleted it.
//   - A shared copy has an original that may be gone by a deletion of a run: another run found the same copy, or this run sent a
//     deletion whose answer was lost. If the original is gone, the copy stays, since it may be all that is left.
//   - A stale copy must go. The application has changed the original since, or has deleted it.
//
// Three answers about the original change a state: it is as it was read, it has changed, or it is gone. The fourth event is a
// deletion whose answer was lost, or that the replicas have not confirmed. A deletion that they have confirmed ends the record.
// Until then a failover may bring the original back. The record of an entry also holds the versions of the original that such
// deletions named. A later copy of such a version is shared. A copy of another version is not, because a deletion does
// not delete an entry that has changed.
//
// A batch claims an entry before it reads it. So the bytes that it reads are newer than all that the run knows of the entry, and
// copies of another version are stale.
//
// Copies that are stale are deleted at once, and again when their entry is read or the run ends. So the record of a finished
// entry ends only if no stale copy and no write without an answer is left. A run that fails, or that ends
// with an entry unfinished, deletes own copies, too.

// copyState is what the run knows of an entry under a new name.
type copyState int

const (
	notCopied  copyState = iota // nothing of this run
	ownCopy                     // if the original is gone, the application has deleted it
	sharedCopy                  // if the original is gone, a run may have deleted it
	staleCopy                   // it must be deleted
)

// originalEvent is what a run learns about the original of a copy. The first three are answers of lookSource.
type originalEvent int64

const (
	originalSame    originalEvent = 1
	originalChanged originalEvent = hasChanged
	originalGone    originalEvent = isGone
	deletionSent    originalEvent = -3 // a deletion was sent, and it is not known whether it lasts
)

// after returns the state after an event.
func (s copyState) after(e originalEvent) copyState {
	switch {
	case s == notCopied:
		return notCopied
	case e == originalChanged:
		return staleCopy
	case s == ownCopy && e == originalGone:
		return staleCopy
	case s == ownCopy && e == deletionSent:
		return sharedCopy
	}
	return s
}
