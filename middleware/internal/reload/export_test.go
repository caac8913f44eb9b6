package reload

// MaxSightings is the bound of the memory.
const MaxSightings = maxSightings
