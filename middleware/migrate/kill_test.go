package migrate_test

// childVariable makes the test binary a process that migrates, to be killed.
const childVariable = "MIGRATE_TEST_CHILD"

func child() int { return 0 }
