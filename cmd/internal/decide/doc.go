// Package decide says what a host is to be like and in which order it gets
// there. It is pure: an Observation goes in, a Decision comes out, and no file
// is opened and nothing is asked of the kernel.
//
// A Decision tells the steps of each Phase. The loop in converge takes the
// phases in their order, makes the steps, has the host observed again where
// they changed it, and decides anew: which step may be made when is said here
// alone. policy, nft and wg each decide about their own objects and know
// nothing of each other; here they are put together.
package decide
