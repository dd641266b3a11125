! squares: a pool from Fortran, by iso_c_binding. On one machine, or under mpirun with TINE_ENGINE=mpi.
!
!     gfortran squares.f90 $(pkg-config --libs tine) -o squares
module squares_mod
   use, intrinsic :: iso_c_binding
   implicit none

   interface
      function tine_init(argc, argv) bind(c)
         import :: c_int, c_ptr
         integer(c_int), value :: argc
         type(c_ptr), value :: argv
         integer(c_int) :: tine_init
      end function
      function tine_pool_create(options, pool) bind(c)
         import :: c_int, c_ptr
         type(c_ptr), value :: options
         type(c_ptr), intent(out) :: pool
         integer(c_int) :: tine_pool_create
      end function
      function tine_map(pool, fn, in, in_stride, out, out_stride, count, options) bind(c)
         import :: c_int, c_ptr, c_funptr, c_size_t
         type(c_ptr), value :: pool, in, out, options
         type(c_funptr), value :: fn
         integer(c_size_t), value :: in_stride, out_stride, count
         integer(c_int) :: tine_map
      end function
      subroutine tine_pool_destroy(pool) bind(c)
         import :: c_ptr
         type(c_ptr), value :: pool
      end subroutine
   end interface

contains

   ! One item, in a worker.
   function square(task, in, out) bind(c) result(status)
      type(c_ptr), value :: task, in, out
      integer(c_int) :: status
      real(c_double), pointer :: x, y
      status = 0
      if (.not. c_associated(task)) status = -22
      call c_f_pointer(in, x)
      call c_f_pointer(out, y)
      y = x * x
   end function
end module

program squares
   use squares_mod
   implicit none
   integer(c_size_t), parameter :: n = 1000
   real(c_double), target :: x(n), y(n)
   type(c_ptr) :: pool
   integer :: i, rc

   rc = tine_init(0_c_int, c_null_ptr) ! First of all: workers start here, too, and stay in there.
   rc = tine_pool_create(c_null_ptr, pool)
   if (rc /= 0) error stop 'no pool'
   x = [(real(i, c_double), i=1, int(n))]
   rc = tine_map(pool, c_funloc(square), c_loc(x), c_sizeof(x(1)), c_loc(y), c_sizeof(y(1)), n, c_null_ptr)
   if (rc /= 0) error stop 'an item failed'
   print '(a, f0.1)', 'sum of squares: ', sum(y)
   call tine_pool_destroy(pool)
end program
